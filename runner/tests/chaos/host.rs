//! A host: one run of the real program, and what it does to it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use drawbridge_shared::ipc::{message_file_name, write_atomic};
use drawbridge_shared::marker::{Markers, ScanEvent, Scanner};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// No run takes as long as this, unless it hangs.
const DEADLINE: Duration = Duration::from_secs(90);
/// All processes of a story have it in their environment.
const VARIABLE: &str = "CHAOS_STORY";

/// A group's folder.
pub(crate) struct Group {
    dir: tempfile::TempDir,
}

impl Group {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["workspace", "home", "ipc/input"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn send(&self, content: &Value) {
        let path = self.path("ipc/input").join(message_file_name());
        write_atomic(&path, content.to_string().as_bytes()).unwrap();
    }

    /// Asks for the end as NanoClaw's host does, or as ours with the run's id.
    pub(crate) fn close(&self, run_id: &str) {
        write_atomic(&self.path("ipc/input/_close"), run_id.as_bytes()).unwrap();
    }

    /// Processes of this story, with their command lines.
    fn processes(&self) -> Vec<(Pid, String)> {
        let wanted = format!("{VARIABLE}={}", self.dir.path().display());
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = ids.filter_map(|id| {
            let folder = Path::new("/proc").join(id.to_string());
            let environment = fs::read(folder.join("environ")).ok()?;
            environment
                .split(|byte| *byte == 0)
                .find(|one| *one == wanted.as_bytes())?;
            let line = fs::read(folder.join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            Some((Pid::from_raw(id)?, line))
        });
        ours.collect()
    }

    /// Kills one process of the story, if there is one.
    pub(crate) fn kill(&self, is_it: impl Fn(&str) -> bool) -> bool {
        let found = self.processes().into_iter().find(|(_, line)| is_it(line));
        found.is_some_and(|(pid, _)| kill_process(pid, Signal::KILL).is_ok())
    }

    /// Waits until no process is left but those that match, which are killed.
    pub(crate) fn wait_until_empty(&self, may_stay: impl Fn(&str) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = self.processes();
            if left.is_empty() {
                return Ok(());
            }
            for (pid, _) in left.iter().filter(|(_, line)| may_stay(line)) {
                // It may have ended in this moment.
                let _ = kill_process(*pid, Signal::KILL);
            }
            if Instant::now() > deadline {
                return Err(format!("processes are left: {left:?}"));
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
            .env(VARIABLE, group.dir.path())
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

/// A run document for the stand-in.
pub(crate) fn document(group: &Group, run_id: &str, agent: &Value, stuck_after: u64) -> Value {
    json!({
        "prompt": format!("prompt of {run_id}"), "groupFolder": "main", "chatJid": "1@g.us", "isMain": true,
        "drawbridge": {
            "runId": run_id, "agent": agent, "stuckAfterSeconds": stuck_after,
            "paths": {
                "workspace": group.path("workspace"),
                "ipc": group.path("ipc"),
                "home": group.path("home"),
            },
        },
    })
}
