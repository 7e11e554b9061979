//! What breaks during a run: nothing is lost, nothing is left, and the end says
//! whose fault it was.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use drawbridge_testkit::{Dialogue, Ended, Program, eventually};
use serde_json::json;

use super::TestMachine;

impl TestMachine {
    fn wait_for(&self, name: &str) {
        eventually(name, || self.path(name).exists().then_some(()));
    }

    /// Waits until there is a whole file in a folder.
    pub(super) fn wait_for_file_in(&self, name: &str) {
        eventually(name, || {
            let entries = fs::read_dir(self.path(name)).into_iter().flatten();
            let mut names = entries.flatten().map(|entry| entry.file_name());
            names
                .any(|name| !name.to_string_lossy().starts_with('.'))
                .then_some(())
        });
    }

    /// The engine's program waits when it is called with this word.
    fn hold(&self, word: &str) -> PathBuf {
        let folder = self.path("bin/hold");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(word);
        fs::write(&path, "").unwrap();
        path
    }

    fn start(&self, args: &[&str]) -> Program {
        let args = [&["run", "--prompt", "hi"], args].concat();
        let mut program = Program::start(&mut self.command(&args));
        program.close_stdin();
        program
    }

    fn clean(&self) -> Ended {
        self.call(&["clean"])
    }
}

#[test]
fn an_engine_that_stops_in_the_middle_is_its_own_fault() {
    let machine = TestMachine::new("engine stops");
    let ended = machine.run(&["--group", "g"]);
    ended.assert_error(4, "cannot make sure that the container of run-");
    ended.assert_error(
        4,
        "hint: run `drawbridge clean` when the engine works again",
    );
    // What is left is known as long as nobody can be asked about it.
    assert_eq!(fs::read_dir(machine.path("state/runs")).unwrap().count(), 1);
    let ended = machine.clean();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("is left for later"), "{ended:?}");
    fs::remove_file(machine.path("bin/down")).unwrap();
    machine.script("answer");
    assert_eq!(machine.run(&["--group", "g"]).code, 0);
    machine.assert_nothing_is_left();
}

#[test]
fn a_launcher_killed_at_any_step_leaves_nothing_behind_the_next_command() {
    let container = ["--group", "g"];
    let bridge = ["--group", "g", "--network", "bridge"];
    let stopping = ["--group", "g", "--timeout", "1s"];
    for (word, script, args) in [
        ("info", "answer", &container[..]),
        ("image", "answer", &container),
        ("network", "answer", &bridge),
        ("run", "answer", &container),
        ("stop", "never answer", &stopping),
        ("ps", "never answer", &stopping),
        ("rm", "will not stop", &stopping),
    ] {
        let machine = TestMachine::new(script);
        let held = machine.hold(word);
        let mut launcher = machine.start(args);
        machine.wait_for("bin/held");
        launcher.kill();
        fs::remove_file(held).unwrap();
        machine.script("answer");
        let ended = machine.clean();
        assert_eq!(ended.code, 0, "{word}: {ended:?}");
        machine.assert_nothing_is_left();
        assert_eq!(machine.run(&["--group", "g"]).code, 0, "{word}");
    }
}

#[test]
fn a_launcher_killed_while_the_agent_works_leaves_nothing_behind_the_next_run() {
    let machine = TestMachine::new("never answer");
    let mut launcher = machine.start(&["--group", "g"]);
    machine.wait_for("bin/pid");
    launcher.kill();
    machine.script("answer");
    let ended = machine.run(&["--group", "g"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    machine.assert_nothing_is_left();
}

#[test]
fn two_launchers_share_a_state_folder_but_not_a_group() {
    let machine = TestMachine::new("never answer");
    let mut first = machine.start(&["--group", "g"]);
    machine.wait_for("bin/pid");
    machine.script("answer");
    let second = machine.run(&["--group", "g"]);
    second.assert_error(3, "group g is in use by another run");
    second.assert_error(
        3,
        "hint: wait for that run to end, or choose another --group",
    );
    let cleaned = machine.clean();
    assert!(cleaned.err.contains("removed 0 dead runs"), "{cleaned:?}");
    assert_eq!(machine.run(&["--group", "h"]).code, 0);
    first.signal(rustix::process::Signal::TERM);
    first.wait().assert_error(130, "interrupted");
    machine.assert_nothing_is_left();
}

#[test]
fn a_configuration_that_cannot_be_read_stops_before_anything_starts() {
    let machine = TestMachine::new("answer");
    let file = machine.path("cwd/drawbridge.toml");
    fs::write(&file, b"[run]\nmemory = '\xff'\n").unwrap();
    let ended = machine.run(&[]);
    ended.assert_error(2, "drawbridge.toml");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let ended = machine.run(&[]);
    ended.assert_error(2, "drawbridge.toml");
    assert!(!machine.path("bin/calls").exists(), "the engine was asked");
}

/// Folders of dead runs are known by their lock, and requests to close by their
/// run, so a clock that was wrong does not matter.
#[test]
fn files_from_the_future_change_nothing() {
    let machine = TestMachine::new("answer");
    assert_eq!(machine.run(&["--group", "g"]).code, 0);
    let dead = machine.path("state/runs/run-0011223344556677");
    fs::create_dir(&dead).unwrap();
    let close = machine.path("state/groups/g/ipc/input/_close");
    let future = SystemTime::now() + Duration::from_secs(7 * 86_400);
    for file in [dead.join("lock"), dead.join("run.json"), close] {
        let file = File::create(file).unwrap();
        file.set_modified(future).unwrap();
    }
    let ended = machine.run(&["--group", "g"]);
    assert_eq!(ended.out, "hi (session session-1)\n", "{ended:?}");
    machine.assert_nothing_is_left();
}

/// `drawbridge run --json` with a small disk for its state folder, on which
/// `before` is done first. Only root can mount one, so any other user becomes root
/// of a user namespace for that, and itself again for the run.
#[cfg(target_os = "linux")]
fn start_on_a_small_disk(machine: &TestMachine, before: &str) -> Dialogue {
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    let mut namespaces = vec!["--mount"];
    let mut back = String::new();
    if !user.is_root() {
        namespaces.extend(["--user", "--map-root-user"]);
        let (user, group) = (user.as_raw(), group.as_raw());
        back = format!("/usr/bin/unshare --map-user={user} --map-group={group}");
    }
    fs::create_dir_all(machine.path("state")).unwrap();
    // The disk is gone with the process, so it tells what is left on it.
    let script = format!(
        "/bin/mount -t tmpfs -o size=256k none {state} && cd {state} && {before}; cd {cwd}; \
         {back} \"$@\"; code=$?; /bin/ls {state}/runs > {left}; exit $code",
        state = machine.path("state").display(),
        cwd = machine.path("cwd").display(),
        left = machine.path("left").display(),
    );
    let run = machine.command(&["run", "--json", "--prompt", "hi", "--group", "g"]);
    let mut command = Command::new("/usr/bin/unshare");
    command
        .args(namespaces)
        .args(["/bin/sh", "-c", &script, "sh"])
        .arg(run.get_program())
        .args(run.get_args())
        .env_clear()
        .envs(
            run.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    Dialogue::start(&mut command)
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_starts_nothing() {
    for before in [
        "/bin/cat /dev/zero > full",
        "/bin/mkdir -p runs groups && echo 0011223344556677 > install-id && /bin/cat /dev/zero > full",
    ] {
        let machine = TestMachine::new("answer");
        let ended = start_on_a_small_disk(&machine, before).end();
        ended.assert_error(3, "No space left on device");
        ended.assert_error(3, "hint: ");
        assert_eq!(machine.read("left"), "");
        let calls = fs::read_to_string(machine.path("bin/calls")).unwrap_or_default();
        assert!(!calls.contains("run "), "{calls}");
    }
}

/// The answer arrives, and what could not be kept or handed over is told.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_loses_nothing_in_silence() {
    let machine = TestMachine::new("fill the disk");
    let mut run = start_on_a_small_disk(&machine, "true");
    run.find(|event| event["type"] == "result");
    run.send(&json!({ "type": "message", "text": "more" }));
    let ended = run.end();
    let events = ended.events();
    let has = |kind: &str, text: &str| {
        let mut of_kind = events.iter().filter(|event| event["type"] == kind);
        of_kind.any(|event| event.to_string().contains(text))
    };
    assert!(has("result", "hi (session none)"), "{events:?}");
    assert!(has("warning", "cannot be resumed later"), "{events:?}");
    assert!(has("warning", "a follow-up is lost"), "{events:?}");
    assert!(
        has("exit", "1 follow-ups did not reach the agent"),
        "{events:?}"
    );
    assert!(has("exit", "infrastructure"), "{events:?}");
    assert_eq!((ended.code, machine.read("left").as_str()), (4, ""));
}
