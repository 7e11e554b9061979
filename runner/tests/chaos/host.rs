//! A host: one run of the real program, and what it does to it.

use std::fs;
use std::io::{Read, Write};
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use drawbridge_shared::marker::{Markers, ScanEvent, Scanner};
use drawbridge_testkit::engine::HostProcess;
use drawbridge_testkit::runner;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// No run takes as long as this, unless it hangs.
const DEADLINE: Duration = Duration::from_secs(90);
/// All processes of a scenario have it in their environment.
const VARIABLE: &str = "CHAOS_SCENARIO";

/// A group's folders, and the processes of the runs in them.
pub(crate) struct Group(runner::Group);

impl Deref for Group {
    type Target = runner::Group;

    fn deref(&self) -> &runner::Group {
        &self.0
    }
}

impl Group {
    pub(crate) fn new() -> Self {
        Self(runner::Group::new())
    }

    fn processes(&self) -> Vec<HostProcess> {
        HostProcess::with_variable(VARIABLE, &self.root().display().to_string())
    }

    /// Kills one process of the scenario, if there is one.
    pub(crate) fn kill(&self, is_it: impl Fn(&str) -> bool) -> bool {
        let mut all = self.processes().into_iter();
        let found = all.find(|process| is_it(&process.command_line()));
        found.is_some_and(HostProcess::kill)
    }

    /// Waits until no process is left but those that match, which are killed.
    pub(crate) fn wait_until_empty(&self, may_stay: impl Fn(&str) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = self.processes();
            if left.is_empty() {
                return Ok(());
            }
            let lines: Vec<_> = left.iter().map(|process| process.command_line()).collect();
            for (process, line) in left.iter().zip(&lines) {
                if may_stay(line) {
                    process.kill();
                }
            }
            if Instant::now() > deadline {
                return Err(format!("processes are left: {lines:?}"));
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}

/// A running `agent-runner`.
pub(crate) struct Run {
    child: Child,
    output: Receiver<Vec<ScanEvent>>,
    errors: Receiver<String>,
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) events: Vec<ScanEvent>,
    pub(crate) errors: String,
}

impl Ended {
    /// The exit code; none when a signal ended the outer process.
    pub(crate) fn code(&self) -> Option<i32> {
        debug_assert!(self.status.code().is_some() != self.status.signal().is_some());
        self.status.code()
    }
}

impl Run {
    pub(crate) fn start(group: &Group, document: &Value) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_agent-runner"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env(VARIABLE, group.root())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let document = document.to_string();
        // It may be killed before it has read all of it.
        thread::spawn(move || input.write_all(document.as_bytes()));
        let output = child.stdout.take().unwrap();
        let errors = child.stderr.take().unwrap();
        Self {
            child,
            output: read(output, |bytes| {
                let mut scanner = Scanner::new(Markers::new(None), 1 << 20);
                let mut events = scanner.push(bytes);
                events.extend(scanner.finish());
                events
            }),
            errors: read(errors, |bytes| String::from_utf8_lossy(bytes).into_owned()),
        }
    }

    /// Signals the outer process, as an engine does.
    pub(crate) fn signal(&self, signal: Signal) {
        // It may have ended; it is not reaped before `end`.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Asks the run to stop, as `docker stop` does. A signal that comes before a
    /// program's first instruction is nothing that the program can answer for.
    pub(crate) fn terminate(&self) {
        let status = format!("/proc/{}/status", self.child.id());
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let status = fs::read_to_string(&status).unwrap_or_default();
            let is_over = status.is_empty() || status.contains("State:\tZ");
            if is_over || catches(&status, Signal::TERM) {
                break;
            }
            thread::park_timeout(Duration::from_millis(1));
        }
        self.signal(Signal::TERM);
    }

    /// Waits for the end, which must come.
    pub(crate) fn end(mut self) -> Result<Ended, String> {
        let hangs = |what| move |_| format!("{what} does not end");
        let errors = self
            .errors
            .recv_timeout(DEADLINE)
            .map_err(hangs("the run"))?;
        let events = self
            .output
            .recv_timeout(DEADLINE)
            .map_err(hangs("its output"))?;
        let status = self.child.wait().unwrap();
        Ok(Ended {
            status,
            events,
            errors,
        })
    }
}

/// Whether a process with this status handles a signal.
fn catches(status: &str, signal: Signal) -> bool {
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .unwrap();
    let set = u64::from_str_radix(set.trim(), 16).unwrap();
    set >> (signal.as_raw() - 1) & 1 == 1
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a stream to its end on a thread of its own.
fn read<T: Send + 'static>(
    mut stream: impl Read + Send + 'static,
    parse: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Receiver<T> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        sender.send(parse(&bytes))
    });
    receiver
}
