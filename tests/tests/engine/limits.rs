//! Limits of a run that the kernel enforces.

use drawbridge_testkit::launcher::events;
use drawbridge_testkit::{Answer, Launcher, Model};

use crate::{Setting, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "memory_limit_of_the_container",
        memory_limit_of_the_container,
    ),
    ("memory_limit_of_the_agent", memory_limit_of_the_agent),
];

fn run(setting: Setting, script: &str) -> (i32, String) {
    let model = Model::start(|_| Answer::Text("never".into()));
    let launcher = Launcher::new(setting.credential, &model);
    let image = setting.agent.image();
    let flags = ["--runtime", "docker", "--image", &image, "--memory", "64m"];
    let agent = [
        "--agent", "command", "--prompt", "go", "--", "/bin/sh", "-c", script,
    ];
    let ended = launcher.run(&[&["run", "--json"][..], &flags, &agent].concat());
    launcher.assert_nothing_left();
    let last = events(&ended.out).pop().unwrap();
    assert_eq!(last["code"], ended.code);
    (ended.code, ended.out)
}

/// Files in `/tmp` count as memory, and they have no process to kill but the
/// runner.
fn memory_limit_of_the_container(setting: Setting) {
    let (code, out) = run(setting, "while :; do cat /dev/zero >> /tmp/x; done");
    assert_eq!(code, 4, "{out}");
    assert!(out.contains("the container was killed"), "{out}");
    assert!(out.contains("it may need more --memory than 64m"), "{out}");
}

fn memory_limit_of_the_agent(setting: Setting) {
    let (code, out) = run(setting, "exec tail /dev/zero");
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("signal 9"), "{out}");
}
