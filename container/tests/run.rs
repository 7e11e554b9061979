//! `drawbridge run` from outside, with a fake engine.

#![expect(clippy::unwrap_used, reason = "a test helper fails the test")]

#[path = "run/clients.rs"]
mod clients;
#[path = "run/config.rs"]
mod config;
#[path = "run/credentials.rs"]
mod credentials;
#[path = "run/dead_letters.rs"]
mod dead_letters;
#[path = "run/doctor.rs"]
mod doctor;
#[path = "run/faults.rs"]
mod faults;
#[path = "run/host.rs"]
mod host;
#[path = "run/requests.rs"]
mod requests;
#[path = "run/serve.rs"]
mod serve;
#[path = "run/terminal.rs"]
mod terminal;
#[path = "run/waiting.rs"]
mod waiting;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use drawbridge_testkit::{Ended, FAKE_KEY as KEY, Program};
use serde_json::Value;

/// A machine with a fake engine as its only one.
struct TestMachine {
    folder: tempfile::TempDir,
}

impl TestMachine {
    /// A machine whose only engine behaves as the script says.
    fn new(script: &str) -> Self {
        let machine = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for name in ["bin", "cwd"] {
            fs::create_dir(machine.path(name)).unwrap();
        }
        let mut engine = PathBuf::from(env!("CARGO_BIN_EXE_drawbridge"));
        engine.pop();
        engine.push("examples/stand-in-engine");
        symlink(&engine, machine.path("bin/docker")).unwrap();
        symlink(&engine, machine.path("bin/container")).unwrap();
        machine.script(script);
        machine
    }

    fn script(&self, script: &str) {
        fs::write(self.path("bin/script"), script).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drawbridge"));
        command
            .args(args)
            .current_dir(self.path("cwd"))
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("cwd"))
            .env("DRAWBRIDGE_STATE_DIR", self.path("state"))
            .env("ANTHROPIC_API_KEY", KEY);
        command
    }

    /// Runs any command to its end, with nothing on its standard input.
    fn call(&self, args: &[&str]) -> Ended {
        Program::run(&mut self.command(args))
    }

    /// Runs `drawbridge run` with a prompt and more arguments.
    fn run(&self, args: &[&str]) -> Ended {
        self.call(&[&["run", "--prompt", "hi"], args].concat())
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(fs::read_dir(self.path("state/runs")).unwrap().count(), 0);
        assert!(!self.path("bin/pid").exists(), "the container is left");
        let networks = fs::read_dir(self.path("bin/networks"));
        assert_eq!(
            networks.into_iter().flatten().count(),
            0,
            "a network is left"
        );
    }
}

#[test]
fn the_answer_is_on_standard_output_and_nothing_else() {
    let machine = TestMachine::new("answer");
    let ended = machine.run(&[]);
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "hi (session none)\n"),
        "{ended:?}"
    );
    assert!(ended.err.contains("sealed network"), "{ended:?}");
    machine.assert_nothing_is_left();
}

#[test]
fn no_key_and_no_token_is_in_arguments_or_environment() {
    let machine = TestMachine::new("answer");
    machine.run(&[]);
    let input: Value = serde_json::from_str(&machine.read("bin/input")).unwrap();
    let token = input["drawbridge"]["proxy"]["token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(!input.to_string().contains(KEY));
    let (calls, environment) = (machine.read("bin/calls"), machine.read("bin/environment"));
    for secret in [KEY, token.as_str(), "ANTHROPIC_API_KEY"] {
        assert!(!calls.contains(secret), "{calls}");
        assert!(!environment.contains(secret), "{environment}");
    }
}

/// It is longer than an argument may be, and process lists are read by all.
#[test]
fn a_prompt_is_in_no_argument_list() {
    let machine = TestMachine::new("answer");
    let prompt = "do this, PROMPT-CANARY ".repeat(20_000);
    let mut command = machine.command(&["run", "--prompt", "-"]);
    let ended = Program::run_with(&mut command, &prompt);
    assert_eq!(ended.out, format!("{prompt} (session none)\n"));
    assert!(!machine.read("bin/calls").contains("PROMPT-CANARY"));
    assert!(machine.read("bin/input").contains("PROMPT-CANARY"));
}

#[test]
fn a_group_resumes_its_conversation_and_a_run_without_one_does_not() {
    let machine = TestMachine::new("answer");
    machine.run(&["--group", "a"]);
    assert_eq!(
        machine.run(&["--group", "a"]).out,
        "hi (session session-1)\n"
    );
    assert_eq!(machine.run(&["--group", "b"]).out, "hi (session none)\n");
    assert_eq!(machine.run(&[]).out, "hi (session none)\n");
}

#[test]
fn events_begin_with_the_isolation_and_end_with_the_exit() {
    let machine = TestMachine::new("answer");
    let mut command = machine.command(&["run", "--prompt", "hi", "--json"]);
    let lines = "{\"type\":\"message\",\"text\":\"more\"}\nnonsense\n{\"type\":\"close\"}\n";
    let ended = Program::run_with(&mut command, lines);
    let events = ended.events();
    assert_eq!(events[0]["isolation"]["network"], "sealed", "{ended:?}");
    let of_type = |name: &str| events.iter().filter(|e| e["type"] == name).count();
    assert_eq!((of_type("result"), of_type("warning")), (2, 1), "{ended:?}");
    assert_eq!(events.last().unwrap()["type"], "exit");
    assert_eq!(ended.code, 0);
}

#[test]
fn a_forged_record_is_no_answer() {
    let ended = TestMachine::new("forge").run(&[]);
    assert_eq!(ended.out, "hi (session none)\n");
}

#[test]
fn a_missing_credential_is_refused_before_the_engine_is_asked() {
    let machine = TestMachine::new("answer");
    let args = ["run", "--prompt", "hi"];
    let ended = Program::run(machine.command(&args).env_remove("ANTHROPIC_API_KEY"));
    for name in [
        "ANTHROPIC_API_KEY, CLAUDE_CODE_OAUTH_TOKEN",
        "ANTHROPIC_AUTH_TOKEN",
    ] {
        ended.assert_error(3, name);
    }
    ended.assert_error(3, "\nhint: ");
    assert_eq!(ended.out, "");
    assert!(!machine.path("bin/calls").exists());
}

#[test]
fn auto_never_picks_the_host() {
    let machine = TestMachine::new("stopped");
    let ended = machine.run(&[]);
    ended.assert_error(3, "cannot connect to the daemon");
    ended.assert_error(3, "\nhint: ");
    ended.assert_error(3, "--runtime host, which does not isolate");
    assert_eq!(ended.out, "");
    fs::remove_file(machine.path("bin/docker")).unwrap();
    machine.run(&[]).assert_error(3, "docker is not installed");
}

#[test]
fn a_missing_image_names_the_command_that_makes_it() {
    let machine = TestMachine::new("no image");
    machine
        .run(&[])
        .assert_error(3, "hint: drawbridge build-image claude");
    machine.assert_nothing_is_left();
}

#[test]
fn each_end_has_its_class() {
    let machine = TestMachine::new("");
    for (script, code, expected) in [
        (
            "cannot start",
            3,
            "docker could not start the container: docker: Error",
        ),
        ("engine fails", 4, "the docker engine failed during the run"),
        ("killed", 4, "the container was killed"),
        ("agent fails", 1, "error: the agent failed: no"),
        (
            "exit without a word",
            1,
            "the agent ended without an answer",
        ),
        (
            "crash",
            1,
            "ended with exit code 3: [agent-runner] it broke with [session token]",
        ),
    ] {
        machine.script(script);
        machine.run(&[]).assert_error(code, expected);
        machine.assert_nothing_is_left();
    }
}

#[test]
fn time_limits_stop_the_container() {
    let machine = TestMachine::new("never answer");
    let ended = machine.run(&["--timeout", "1s"]);
    ended.assert_error(5, "the run was stopped after 1 s");
    machine.assert_nothing_is_left();
    let ended = machine.run(&["--idle-timeout", "1s"]);
    ended.assert_error(5, "without an answer");
    machine.assert_nothing_is_left();
}

#[test]
fn a_container_that_does_not_stop_is_killed() {
    let machine = TestMachine::new("will not stop");
    let ended = machine.run(&["--timeout", "1s"]);
    ended.assert_error(5, "the run was stopped after 1 s");
    machine.assert_nothing_is_left();
}

#[test]
fn a_bridge_run_has_a_network_of_its_own_whatever_its_end() {
    let machine = TestMachine::new("answer");
    for (script, code) in [("answer", 0), ("cannot start", 3), ("killed", 4)] {
        machine.script(script);
        let ended = machine.run(&["--network", "bridge"]);
        assert_eq!(ended.code, code, "{ended:?}");
        machine.assert_nothing_is_left();
    }
    let calls = machine.read("bin/calls");
    let networks: Vec<_> = calls
        .lines()
        .filter(|call| call.starts_with("network create --label drawbridge.install="))
        .filter_map(|call| call.split(' ').next_back())
        .collect();
    assert_eq!(networks.len(), 3, "{calls}");
    for network in networks {
        let flag = format!(" --network {network} --add-host host.docker.internal:127.0.0.1 ");
        assert_eq!(calls.matches(&flag).count(), 1, "{calls}");
    }
}

/// Apple's `container` as its command reference describes it; never run on a Mac.
const APPLE: [&str; 6] = [
    "--runtime",
    "apple",
    "--network",
    "bridge",
    "--waive",
    "seccomp,no-new-privileges",
];

#[test]
fn apples_container_runs_an_agent_and_says_what_it_lacks() {
    let machine = TestMachine::new("answer");
    let ended = machine.run(&APPLE);
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "hi (session none)\n"),
        "{ended:?}"
    );
    assert!(
        ended.err.contains("WITHOUT seccomp and no-new-privileges"),
        "{ended:?}"
    );
    let input: Value = serde_json::from_str(&machine.read("bin/input")).unwrap();
    let endpoint = input["drawbridge"]["proxy"]["endpoint"]["url"]
        .as_str()
        .unwrap();
    assert!(
        endpoint.starts_with("http://host.container.internal:"),
        "{endpoint}"
    );
    machine.assert_nothing_is_left();
}

#[test]
fn apples_container_that_hangs_is_killed() {
    let machine = TestMachine::new("will not stop");
    let ended = machine.run(&[&APPLE[..], &["--timeout", "1s"]].concat());
    ended.assert_error(5, "the run was stopped after 1 s");
    machine.assert_nothing_is_left();
}

#[test]
fn apples_container_refuses_what_it_cannot_do() {
    let machine = TestMachine::new("answer");
    let refused = |args: &[&str]| machine.run(&[&["--runtime", "apple"], args].concat());
    refused(&["--network", "bridge"]).assert_error(3, "cannot enforce seccomp");
    refused(&APPLE[4..]).assert_error(3, "choose --network bridge");
    machine.script("no domain");
    machine
        .run(&APPLE)
        .assert_error(3, "sudo container system dns create");
    machine.script("stopped");
    machine
        .run(&APPLE)
        .assert_error(3, "apiserver is not running");
}

#[test]
fn unknown_names_are_refused_with_the_accepted_ones() {
    let machine = TestMachine::new("answer");
    for (flag, accepted) in [
        ("--runtime", "auto, docker, podman, apple, host"),
        ("--agent", "claude, builtin, "),
        ("--network", "sealed, bridge"),
    ] {
        let ended = machine.run(&[flag, "nonsense"]);
        ended.assert_error(2, accepted);
        ended.assert_error(2, "nonsense");
        assert!(ended.err.starts_with("error: --"), "{ended:?}");
        assert_eq!(ended.out, "");
    }
    machine
        .run(&["--agent", "command"])
        .assert_error(2, "-- PROGRAM");
}
