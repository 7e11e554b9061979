//! The outer process and `tied`, as processes.
//!
//! The outer process reaps every child of its own, so it cannot be a thread of
//! a test. This program starts itself again as the outer process; a shell
//! script stands in for `supervise`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "this is a test, which clippy cannot see without `#[test]`"
)]

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use drawbridge_runner::{SelfCommand, main_impl};
use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// For everything a test waits for.
const DEADLINE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "outer") {
        let script = args.next().unwrap_or_default();
        let stand_in = SelfCommand {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script, "sh".into()],
        };
        return main_impl(&stand_in, args).into();
    }
    let trials = TESTS.iter().map(|&(name, body)| {
        Trial::test(name, move || {
            body();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

const TESTS: &[(&str, fn())] = &[
    ("the_exit_code_is_supervises", the_exit_code_is_supervises),
    (
        "a_killed_supervise_gives_128_plus_n",
        a_killed_supervise_gives_128_plus_n,
    ),
    (
        "one_that_dies_of_the_forwarded_signal_was_interrupted",
        one_that_dies_of_the_forwarded_signal_was_interrupted,
    ),
    (
        "a_storm_of_orphans_leaves_no_zombie",
        a_storm_of_orphans_leaves_no_zombie,
    ),
    (
        "daemons_in_their_own_session_die_with_the_run",
        daemons_in_their_own_session_die_with_the_run,
    ),
    (
        "kill_9_of_supervise_leaves_nothing",
        kill_9_of_supervise_leaves_nothing,
    ),
    ("signals_are_forwarded", signals_are_forwarded),
    (
        "who_ignores_the_signal_is_killed_after_the_grace",
        who_ignores_the_signal_is_killed_after_the_grace,
    ),
    (
        "the_end_of_the_parent_stops_the_run",
        the_end_of_the_parent_stops_the_run,
    ),
    (
        "the_outer_process_holds_no_pipe",
        the_outer_process_holds_no_pipe,
    ),
    (
        "the_outer_process_is_closed_to_inspection",
        the_outer_process_is_closed_to_inspection,
    ),
    (
        "a_tied_program_dies_with_its_parent",
        a_tied_program_dies_with_its_parent,
    ),
    (
        "a_tied_program_is_not_started_for_a_stranger",
        a_tied_program_is_not_started_for_a_stranger,
    ),
    ("a_missing_program_is_127", a_missing_program_is_127),
];

/// A process under test, with its standard output and input.
struct Outer {
    pid: Pid,
    stdin: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
    ended: mpsc::Receiver<ExitStatus>,
}

impl Outer {
    /// Starts the outer process with a script in the place of `supervise`.
    fn start(script: &str, args: &[&str]) -> Self {
        Self::spawn(outer_command(script, args))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        Self {
            pid: Pid::from_child(&child),
            stdin: child.stdin.take(),
            lines: BufReader::new(stdout),
            ended: wait(child),
        }
    }

    /// The next line, which holds a process id.
    fn read_pid(&mut self) -> Pid {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        Pid::from_raw(line.trim().parse().unwrap()).unwrap()
    }

    fn status(&self) -> ExitStatus {
        self.ended.recv_timeout(DEADLINE).unwrap()
    }
}

fn outer_command(script: &str, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["outer", script, "run"]).args(args);
    command
}

fn wait(mut child: Child) -> mpsc::Receiver<ExitStatus> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait().unwrap()));
    receiver
}

fn runner() -> PathBuf {
    env!("CARGO_BIN_EXE_agent-runner").into()
}

/// Waits until a process is gone, or dead and only not yet reaped.
fn assert_gone(pid: Pid) {
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        while test_kill_process(pid).is_ok() {
            let is_zombie = fs::read_to_string(&stat).is_ok_and(|text| text.contains(") Z "));
            if is_zombie {
                break;
            }
            thread::yield_now();
        }
        sender.send(())
    });
    receiver
        .recv_timeout(DEADLINE)
        .expect("the process is still there");
}

/// A script line that starts a daemon in a session of its own, with a child of
/// its own, and prints both process ids.
const DAEMON: &str =
    "setsid sh -c 'sleep 1000 </dev/null >&- 2>&- & echo $$; echo $!; exec >&-; wait' &\n";

fn the_exit_code_is_supervises() {
    let outer = Outer::start("exit 7", &[]);
    assert_eq!(outer.status().code(), Some(7));
}

fn a_killed_supervise_gives_128_plus_n() {
    assert_eq!(Outer::start("kill -9 $$", &[]).status().code(), Some(137));
    assert_eq!(Outer::start("kill -6 $$", &[]).status().code(), Some(134));
}

/// A signal may come before `supervise` handles any.
fn one_that_dies_of_the_forwarded_signal_was_interrupted() {
    let mut outer = Outer::start("echo $$; exec sleep 1000", &[]);
    outer.read_pid();
    kill_process(outer.pid, Signal::TERM).unwrap();
    assert_eq!(outer.status().code(), Some(130));
}

fn a_storm_of_orphans_leaves_no_zombie() {
    let script = "
        i=0; while [ $i -lt 500 ]; do (sh -c 'exit 3' & ) ; i=$((i+1)); done
        # Every orphan that still runs or was not reaped names us or our parent as its parent.
        left() { cat /proc/[0-9]*/stat 2>/dev/null | grep -c \") [A-Z] $PPID \"; }
        while [ $(left) -gt 1 ]; do :; done
        exit 5";
    assert_eq!(Outer::start(script, &[]).status().code(), Some(5));
}

fn daemons_in_their_own_session_die_with_the_run() {
    let mut outer = Outer::start(&format!("{DAEMON} read go; exit 0"), &[]);
    let pids = [outer.read_pid(), outer.read_pid()];
    outer.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(outer.status().code(), Some(0));
    pids.into_iter().for_each(assert_gone);
}

fn kill_9_of_supervise_leaves_nothing() {
    let mut outer = Outer::start(&format!("echo $$; {DAEMON} wait"), &[]);
    let supervise = outer.read_pid();
    let pids = [outer.read_pid(), outer.read_pid()];
    kill_process(supervise, Signal::KILL).unwrap();
    assert_eq!(outer.status().code(), Some(137));
    pids.into_iter().for_each(assert_gone);
}

fn signals_are_forwarded() {
    for (name, signal) in [
        ("TERM", Signal::TERM),
        ("INT", Signal::INT),
        ("HUP", Signal::HUP),
        ("QUIT", Signal::QUIT),
    ] {
        let script = format!("trap 'exit 9' {name}; echo $$; sleep 1000 & wait");
        let mut outer = Outer::start(&script, &[]);
        outer.read_pid();
        kill_process(outer.pid, signal).unwrap();
        assert_eq!(outer.status().code(), Some(9), "{name}");
    }
}

fn who_ignores_the_signal_is_killed_after_the_grace() {
    let script = "trap '' TERM; echo $$; while :; do sleep 1; done";
    let mut outer = Outer::start(script, &[]);
    let supervise = outer.read_pid();
    kill_process(outer.pid, Signal::TERM).unwrap();
    assert_eq!(outer.status().code(), Some(137));
    assert_gone(supervise);
}

fn the_end_of_the_parent_stops_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("note");
    let script = "trap 'echo stopped > $NOTE; exit 0' TERM; echo $PPID; sleep 1000 & wait";
    let mut parent = Command::new("/bin/sh");
    parent
        .args(["-c", "\"$0\" outer \"$1\" run --parent $$ & wait"])
        .arg(std::env::current_exe().unwrap())
        .arg(script)
        .env("NOTE", &note);
    let mut parent = Outer::spawn(parent);
    let outer = parent.read_pid();
    kill_process(parent.pid, Signal::KILL).unwrap();
    assert_gone(outer);
    assert_eq!(fs::read_to_string(note).unwrap(), "stopped\n");
}

fn the_outer_process_holds_no_pipe() {
    let mut outer = Outer::start(
        "echo $$; trap 'exit 0' TERM; exec <&- >&-; sleep 1000 & wait",
        &[],
    );
    outer.read_pid();
    let mut rest = String::new();
    outer.lines.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    let mut stdin = outer.stdin.take().unwrap();
    let error = loop {
        // The script closes its input just before its output.
        if let Err(error) = stdin.write_all(b"x") {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    kill_process(outer.pid, Signal::TERM).unwrap();
    assert_eq!(outer.status().code(), Some(0));
}

/// The kernel gives the files of a process that is closed to inspection to
/// root. Another user's process shows that only when the test is root.
fn the_outer_process_is_closed_to_inspection() {
    let own = fs::metadata("/proc/self").unwrap().uid();
    let mut command = outer_command("echo $PPID; read go", &[]);
    let copy = tempfile::tempdir().unwrap();
    if own == 0 {
        // The build folder may be closed to other users.
        let program = copy.path().join("outer");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        make_readable(copy.path());
        command = Command::new(program);
        command
            .args(["outer", "echo $PPID; read go", "run"])
            .uid(1234)
            .gid(1234);
    }
    command.current_dir("/");
    let mut outer = Outer::spawn(command);
    let pid = outer.read_pid();
    let owner = fs::metadata(format!("/proc/{}/fd", pid.as_raw_nonzero()))
        .unwrap()
        .uid();
    assert_eq!(owner, 0);
    drop(outer.stdin.take());
    outer.status();
}

fn make_readable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

fn a_tied_program_dies_with_its_parent() {
    let mut parent = Command::new("/bin/sh");
    parent
        .args(["-c", "\"$0\" tied --parent $$ --no-new-privileges -- sh -c 'echo $$; exec sleep 1000' & wait"])
        .arg(runner());
    let mut parent = Outer::spawn(parent);
    let program = parent.read_pid();
    kill_process(parent.pid, Signal::KILL).unwrap();
    assert_gone(program);
}

fn a_tied_program_is_not_started_for_a_stranger() {
    let mut command = Command::new(runner());
    command
        .args(["tied", "--parent", "1", "--", "echo", "started"])
        .stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut output = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut output)
        .unwrap();
    assert_eq!(output, "");
    let status = wait(child).recv_timeout(DEADLINE).unwrap();
    assert_eq!(status.code(), Some(126));
}

fn a_missing_program_is_127() {
    let mut command = Command::new(runner());
    let own = std::process::id().to_string();
    let program: OsString = "no-such-program".into();
    command
        .args(["tied", "--parent", &own, "--"])
        .arg(program)
        .stderr(Stdio::piped());
    // The thread that starts a tied process is its parent in the kernel's eyes.
    let mut child = command.spawn().unwrap();
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert!(
        errors.contains("cannot start \"no-such-program\": No such file"),
        "{errors}"
    );
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(127), None));
}
