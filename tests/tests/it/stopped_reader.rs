//! A caller that stops reading answers holds up nothing but its answers.

use std::io::Read;
use std::process::{Child, Stdio};

use drawbridge_testkit::{Answer, Credential, Launcher, Model, eventually};
use rustix::process::{Pid, Signal, kill_process};

/// More than a pipe and the launcher's own queue hold.
const ANSWER: &str = "head -c 20000000 /dev/zero | tr '\\0' x";

#[test]
fn a_signal_ends_a_launcher_whose_reader_has_stopped() {
    let model = Model::start(|_| Answer::Text("unused".into()));
    let launcher = Launcher::new(Credential::ApiKey, &model);
    let mut command = launcher.command(&[
        "run",
        "--json",
        "--runtime",
        "host",
        "--agent",
        "command",
        "--prompt",
        "go",
        "--",
        "/bin/sh",
        "-c",
        ANSWER,
    ]);
    let mut run = Kill(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut out = run.0.stdout.take().unwrap();

    // The answer is on its way; nobody reads the rest of it.
    let mut begun = Vec::new();
    while !begun.windows(8).any(|eight| eight == b"xxxxxxxx") {
        let mut piece = [0; 1024];
        let count = out.read(&mut piece).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&begun));
        begun.extend_from_slice(&piece[..count]);
    }
    eventually("the run to be over", || {
        launcher.run_ids().is_empty().then_some(())
    });
    kill_process(Pid::from_child(&run.0), Signal::TERM).unwrap();
    let _status = eventually("the launcher to end", || run.0.try_wait().unwrap());
    launcher.assert_nothing_left();
}

/// A program that does not outlive its test.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
