//! What breaks during a run: nothing is lost, nothing is left, and the end says
//! whose fault it was.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::{Bench, Ended};

/// How long an event may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

impl Bench {
    fn wait_for(&self, name: &str) {
        wait_until(name, || self.path(name).exists());
    }

    /// Waits until there is a whole file in a folder.
    pub(super) fn wait_for_file_in(&self, name: &str) {
        wait_until(name, || {
            let entries = fs::read_dir(self.path(name)).into_iter().flatten();
            let mut names = entries.flatten().map(|entry| entry.file_name());
            names.any(|name| !name.to_string_lossy().starts_with('.'))
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

    fn start(&self, args: &[&str]) -> Child {
        let args = [&["run", "--prompt", "hi"], args].concat();
        self.command(&args).spawn().unwrap()
    }

    fn clean(&self) -> Ended {
        self.end(self.command(&["clean"]).spawn().unwrap())
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "no {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn an_engine_that_stops_in_the_middle_is_its_own_fault() {
    let bench = Bench::new("engine stops");
    let ended = bench.run(&["--group", "g"]);
    ended.assert_error(4, "cannot make sure that the container of run-");
    ended.assert_error(
        4,
        "hint: run `drawbridge clean` when the engine works again",
    );
    // What is left is known as long as nobody can be asked about it.
    assert_eq!(fs::read_dir(bench.path("state/runs")).unwrap().count(), 1);
    let ended = bench.clean();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("is left for later"), "{ended:?}");
    fs::remove_file(bench.path("bin/down")).unwrap();
    bench.script("answer");
    assert_eq!(bench.run(&["--group", "g"]).code, 0);
    bench.assert_nothing_is_left();
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
        let bench = Bench::new(script);
        let held = bench.hold(word);
        let mut launcher = bench.start(args);
        bench.wait_for("bin/held");
        launcher.kill().unwrap();
        launcher.wait().unwrap();
        fs::remove_file(held).unwrap();
        bench.script("answer");
        let ended = bench.clean();
        assert_eq!(ended.code, 0, "{word}: {ended:?}");
        bench.assert_nothing_is_left();
        assert_eq!(bench.run(&["--group", "g"]).code, 0, "{word}");
    }
}

#[test]
fn a_launcher_killed_while_the_agent_works_leaves_nothing_behind_the_next_run() {
    let bench = Bench::new("never answer");
    let mut launcher = bench.start(&["--group", "g"]);
    bench.wait_for("bin/pid");
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    bench.script("answer");
    let ended = bench.run(&["--group", "g"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    bench.assert_nothing_is_left();
}

#[test]
fn two_launchers_share_a_state_folder_but_not_a_group() {
    let bench = Bench::new("never answer");
    let first = bench.start(&["--group", "g"]);
    bench.wait_for("bin/pid");
    bench.script("answer");
    let second = bench.run(&["--group", "g"]);
    second.assert_error(3, "group g is in use by another run");
    second.assert_error(
        3,
        "hint: wait for that run to end, or choose another --group",
    );
    let cleaned = bench.clean();
    assert!(cleaned.err.contains("removed 0 dead runs"), "{cleaned:?}");
    assert_eq!(bench.run(&["--group", "h"]).code, 0);
    let id = rustix::process::Pid::from_child(&first);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let first = bench.end(first);
    first.assert_error(130, "interrupted");
    bench.assert_nothing_is_left();
}

#[test]
fn a_configuration_that_cannot_be_read_stops_before_anything_starts() {
    let bench = Bench::new("answer");
    let file = bench.path("cwd/drawbridge.toml");
    fs::write(&file, b"[run]\nmemory = '\xff'\n").unwrap();
    let ended = bench.run(&[]);
    ended.assert_error(2, "drawbridge.toml");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let ended = bench.run(&[]);
    ended.assert_error(2, "drawbridge.toml");
    assert!(!bench.path("bin/calls").exists(), "the engine was asked");
}

/// Folders of dead runs are known by their lock, and requests to close by their
/// run, so a clock that was wrong does not matter.
#[test]
fn files_from_the_future_change_nothing() {
    let bench = Bench::new("answer");
    assert_eq!(bench.run(&["--group", "g"]).code, 0);
    let dead = bench.path("state/runs/run-0011223344556677");
    fs::create_dir(&dead).unwrap();
    let close = bench.path("state/groups/g/ipc/input/_close");
    let future = SystemTime::now() + Duration::from_secs(7 * 86_400);
    for file in [dead.join("lock"), dead.join("run.json"), close] {
        let file = File::create(file).unwrap();
        file.set_modified(future).unwrap();
    }
    let ended = bench.run(&["--group", "g"]);
    assert_eq!(ended.out, "hi (session session-1)\n", "{ended:?}");
    bench.assert_nothing_is_left();
}

/// `drawbridge run --json` with a small disk for its state folder, on which
/// `before` is done first. Only root can mount one, so any other user becomes root
/// of a user namespace for that, and itself again for the run.
#[cfg(target_os = "linux")]
fn start_on_a_small_disk(bench: &Bench, before: &str) -> Child {
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    let mut namespaces = vec!["--mount"];
    let mut back = String::new();
    if !user.is_root() {
        namespaces.extend(["--user", "--map-root-user"]);
        let (user, group) = (user.as_raw(), group.as_raw());
        back = format!("/usr/bin/unshare --map-user={user} --map-group={group}");
    }
    fs::create_dir_all(bench.path("state")).unwrap();
    // The disk is gone with the process, so it tells what is left on it.
    let script = format!(
        "/bin/mount -t tmpfs -o size=256k none {state} && cd {state} && {before}; cd {cwd}; \
         {back} \"$@\"; code=$?; /bin/ls {state}/runs > {left}; exit $code",
        state = bench.path("state").display(),
        cwd = bench.path("cwd").display(),
        left = bench.path("left").display(),
    );
    let run = bench.command(&["run", "--json", "--prompt", "hi", "--group", "g"]);
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
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_starts_nothing() {
    for before in [
        "/bin/cat /dev/zero > full",
        "/bin/mkdir -p runs groups && echo 0011223344556677 > install-id && /bin/cat /dev/zero > full",
    ] {
        let bench = Bench::new("answer");
        let child = start_on_a_small_disk(&bench, before);
        let ended = bench.end(child);
        ended.assert_error(3, "No space left on device");
        ended.assert_error(3, "hint: ");
        assert_eq!(bench.read("left"), "");
        let calls = fs::read_to_string(bench.path("bin/calls")).unwrap_or_default();
        assert!(!calls.contains("run "), "{calls}");
    }
}

/// The answer arrives, and what could not be kept or handed over is told.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_loses_nothing_in_silence() {
    let bench = Bench::new("fill the disk");
    let mut child = start_on_a_small_disk(&bench, "true");
    let mut events = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if event["type"] == "result" {
            let mut stdin = child.stdin.take().unwrap();
            stdin
                .write_all(b"{\"type\":\"message\",\"text\":\"more\"}\n")
                .unwrap();
        }
        events.push(event);
    }
    let ended = bench.end(child);
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
    assert_eq!((ended.code, bench.read("left").as_str()), (4, ""));
}
