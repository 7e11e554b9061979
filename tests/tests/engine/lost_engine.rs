//! The engine stops under `serve` and comes back. It is one of the test's own:
//! nothing else on this machine notices.

use std::fs;
use std::process::Command;

use drawbridge_testkit::engine::docker_ok;
use drawbridge_testkit::program::Ended;
use drawbridge_testkit::{Answer, Launcher, Model, Program, eventually};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{Setting, Test};

pub(crate) const TESTS: &[Test] = &[("serve_survives_a_lost_engine", serve_survives_a_lost_engine)];

/// A Docker engine with folders, a socket and a network namespace of its own.
struct OwnEngine {
    folder: TempDir,
    daemon: Program,
}

impl OwnEngine {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("dbe").tempdir_in("/tmp");
        let folder = folder.unwrap();
        let daemon = daemon(&folder);
        let engine = Self { folder, daemon };
        engine.wait();
        engine
    }

    fn host(&self) -> String {
        format!("unix://{}/sock", self.folder.path().display())
    }

    fn docker(&self, args: &[&str]) -> Ended {
        Program::run(
            Command::new("docker")
                .args(["--host", &self.host()])
                .args(args),
        )
    }

    fn wait(&self) {
        eventually("the engine", || {
            (self.docker(&["info"]).code == 0).then_some(())
        });
    }

    fn stop(&mut self) {
        self.daemon.signal(Signal::TERM);
        let _ = self.daemon.wait();
    }

    fn start_again(&mut self) {
        self.daemon = daemon(&self.folder);
        self.wait();
    }

    /// Takes an image over from the usual engine.
    fn load(&self, image: &str) {
        let file = self.folder.path().join("image.tar").display().to_string();
        let _ = docker_ok(&["save", "--output", &file, image]);
        assert_eq!(self.docker(&["load", "--input", &file]).code, 0);
    }
}

fn daemon(folder: &TempDir) -> Program {
    let path = |name: &str| folder.path().join(name).display().to_string();
    // Without a bridge of its own it removes the one of the machine, so it gets a
    // network namespace. Program and process stay the same.
    let mut command = Command::new("unshare");
    command
        .args(["--net", "dockerd"])
        .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
        .args(["--pidfile", &path("pid"), "--host"])
        .arg(format!("unix://{}", path("sock")))
        .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"]);
    Program::start(&mut command)
}

/// The run that it had is a dead letter; its group waits until it is known that
/// nothing is left of that, and goes on by itself.
fn serve_survives_a_lost_engine(setting: Setting) {
    let image = std::env::var("DRAWBRIDGE_TESTS_IMAGE");
    let image = image.unwrap_or_else(|_| setting.agent.image());
    let mut engine = OwnEngine::start();
    engine.load(&image);
    let model = Model::start(|_| Answer::Text("never".into()));
    let launcher = Launcher::new(setting.credential, &model).with_engine(&engine.host());
    let flags = [
        "--runtime",
        "docker",
        "--image",
        &image,
        "--agent",
        "command",
    ];
    let serve = launcher.serve(&flags);
    let submit = |script: &str| -> i64 {
        let submit = [
            "submit", "--group", "g", "--prompt", "go", "--", "/bin/sh", "-c", script,
        ];
        let ended = launcher.run(&submit);
        assert_eq!(ended.code, 0, "{}", ended.err);
        ended.out.trim().parse().unwrap()
    };
    let lost = submit("echo x >> deeds; sleep 1000");
    let deeds = launcher.group("g").join("workspace/deeds");
    eventually("the agent", || deeds.exists().then_some(()));
    engine.stop();
    let dead = serve.wait_for(lost, "dead");
    assert_eq!(dead["class"], "infrastructure", "{dead}");
    assert!(dead["hint"].is_string(), "{dead}");
    let next = submit("echo fine");
    let _ = serve.wait_for(next, "queued");
    engine.start_again();
    let _ = serve.wait_for(next, "done");
    assert_eq!(serve.results(next), ["fine"]);
    assert_eq!(fs::read_to_string(deeds).unwrap(), "x\n");
    assert_eq!(serve.end().code, 0);
    assert_eq!(engine.docker(&["ps", "--all", "--quiet"]).out, "");
    assert_eq!(launcher.run_ids(), Vec::<String>::new());
    engine.stop();
}
