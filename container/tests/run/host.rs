//! The host as a runtime: a process held by Landlock.

use std::fs;

use drawbridge_testkit::Ended;

use crate::{KEY, TestMachine};

#[test]
fn the_host_runs_without_our_environment_and_says_what_it_is() {
    let machine = TestMachine::new("answer");
    let args = [
        "--runtime",
        "host",
        "--agent",
        "command",
        "--",
        "/usr/bin/env",
    ];
    let ended = machine.run(&args);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("NOT isolated"), "{ended:?}");
    assert!(!ended.out.contains(KEY), "{ended:?}");
    machine.assert_nothing_is_left();
}

/// Runs a shell script as the agent on this machine.
fn on_the_host(machine: &TestMachine, flags: &[&str], script: &str) -> Ended {
    let command = ["--runtime", "host", "--agent", "command"];
    let program = ["--", "/bin/bash", "-c", script];
    machine.run(&[&command, flags, &program].concat())
}

#[cfg(target_os = "linux")]
#[test]
fn on_the_host_the_agent_writes_to_its_own_folders_only() {
    let machine = TestMachine::new("answer");
    let outside = machine.path("outside");
    let script = format!(
        "echo mine > own && echo mine > \"$TMPDIR/own\" && echo mine > \"$HOME/own\" && \
         echo all own; echo theirs > {} || echo refused",
        outside.display()
    );
    let ended = on_the_host(&machine, &[], &script);
    assert!(ended.out.contains("all own\nrefused"), "{ended:?}");
    assert!(!outside.exists());
    on_the_host(&machine, &["--no-sandbox"], &script);
    assert!(outside.exists(), "the script is right");
}

#[cfg(target_os = "linux")]
#[test]
fn on_the_host_secrets_and_the_launcher_cannot_be_read() {
    let machine = TestMachine::new("answer");
    fs::create_dir(machine.path("cwd/.ssh")).unwrap();
    for secret in [".env", ".ssh/id_ed25519", "plain"] {
        fs::write(machine.path("cwd").join(secret), "TOP=SECRET").unwrap();
    }
    let cwd = machine.path("cwd").display().to_string();
    let script = format!(
        "PATH=/usr/bin:/bin; cd {cwd}; cat .env .ssh/id_ed25519 && echo bad; cat plain; \
         grep -l {KEY} /proc/[0-9]*/environ && echo worse; true"
    );
    let ended = on_the_host(&machine, &[], &script);
    assert_eq!(ended.out.trim(), "TOP=SECRET", "{ended:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn on_the_host_only_the_proxy_can_be_reached() {
    let machine = TestMachine::new("answer");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("(echo > /dev/tcp/127.0.0.1/{port}) && echo reached || echo refused");
    let ended = on_the_host(&machine, &["--no-sandbox"], &script);
    assert_eq!(ended.out.trim(), "reached", "{ended:?}");
    let ended = on_the_host(&machine, &[], &script);
    assert_eq!(ended.out.trim(), "refused", "{ended:?}");
}
