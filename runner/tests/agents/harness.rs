//! One run of the real program in folders of its own.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use drawbridge_shared::ipc::{message_file_name, write_atomic};
use drawbridge_shared::marker::{Markers, ScanEvent, Scanner};
use drawbridge_shared::protocol::{RecordStatus, RunRecord};
use serde_json::{Value, json};
use tempfile::TempDir;

/// For everything a test waits for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The folders of a group; they outlive a run.
pub(crate) struct Group {
    dir: TempDir,
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

    /// A run document for an agent of any kind.
    pub(crate) fn document(&self, prompt: &str, kind: &str, command: &[&str]) -> Value {
        json!({
            "prompt": prompt, "groupFolder": "main", "chatJid": "1@g.us", "isMain": true,
            "drawbridge": {
                "runId": "run-0011223344556677",
                "agent": { "kind": kind, "command": command },
                "paths": {
                    "workspace": self.path("workspace"),
                    "ipc": self.path("ipc"),
                    "home": self.path("home"),
                },
            },
        })
    }

    /// A run document for the stand-in of Claude Code.
    pub(crate) fn claude(&self, prompt: &str, scenario: &str) -> Value {
        let this = std::env::current_exe().unwrap();
        self.document(
            prompt,
            "claude",
            &[this.to_str().unwrap(), "stand-in", scenario],
        )
    }

    pub(crate) fn message(&self, text: &str) {
        self.input_file(
            &message_file_name(),
            &json!({ "type": "message", "text": text }),
        );
    }

    pub(crate) fn input_file(&self, name: &str, content: &Value) {
        let path = self.path("ipc/input").join(name);
        write_atomic(&path, content.to_string().as_bytes()).unwrap();
    }

    pub(crate) fn close(&self) {
        fs::write(self.path("ipc/input/_close"), "").unwrap();
    }

    /// Names of files in a folder of `ipc/input`, hidden ones left out.
    pub(crate) fn input_files(&self, folder: &str) -> Vec<String> {
        let folder = self.path("ipc/input").join(folder);
        let names = fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }

    pub(crate) fn heartbeat(&self) -> Value {
        let text = fs::read(self.path("ipc/heartbeat.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// What the stand-in agent was sent, in order.
    pub(crate) fn received(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("workspace/received.log")).unwrap_or_default();
        log.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) fn run(&self, document: &Value) -> Run {
        Run::start(
            document.to_string().as_bytes(),
            &Markers::new(None),
            self.dir.path(),
        )
    }

    /// A run with variables of its own.
    pub(crate) fn run_with(&self, document: &Value, variables: &[(&str, &Path)]) -> Run {
        let mut run = Run::spawn(
            Stdio::piped(),
            &Markers::new(None),
            self.dir.path(),
            variables,
        );
        let mut input = run.child.stdin.take().unwrap();
        input.write_all(document.to_string().as_bytes()).unwrap();
        run
    }

    /// All that a run prints, as text.
    pub(crate) fn raw_output(&self, document: &Value) -> String {
        let mut child = Command::new(env!("CARGO_BIN_EXE_agent-runner"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .env("DRAWBRIDGE_AGENT", "no-such-agent")
            .env("HOME", self.path("home"))
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(document.to_string().as_bytes()).unwrap();
        drop(input);
        let mut text = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        child.wait().unwrap();
        text
    }

    /// Runs to the end after a close request that comes once the first record
    /// is there.
    pub(crate) fn run_once(&self, document: &Value) -> (RunRecord, i32) {
        let run = self.run(document);
        let record = run.record();
        self.close();
        (record, run.exit().0)
    }
}

/// A running `agent-runner`.
pub(crate) struct Run {
    pub(crate) child: Child,
    events: Receiver<ScanEvent>,
    stderr: Receiver<String>,
}

impl Run {
    pub(crate) fn start(stdin: &[u8], markers: &Markers, cwd: &Path) -> Self {
        let mut run = Self::with_input(Stdio::piped(), markers, cwd);
        let mut input = run.child.stdin.take().unwrap();
        let bytes = stdin.to_vec();
        // The runner may refuse the document before it has read all of it.
        thread::spawn(move || input.write_all(&bytes));
        run
    }

    pub(crate) fn with_input(stdin: Stdio, markers: &Markers, cwd: &Path) -> Self {
        Self::spawn(stdin, markers, cwd, &[])
    }

    fn spawn(stdin: Stdio, markers: &Markers, cwd: &Path, variables: &[(&str, &Path)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_agent-runner"))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir(cwd)
            .env_remove("DRAWBRIDGE_AGENT")
            .env("DRAWBRIDGE_LOG", "debug")
            .envs(variables.iter().copied())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut scanner = Scanner::new(markers.clone(), 64 << 20);
        let (sender, events) = channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                for event in scanner.push(&buffer[..length]) {
                    sender.send(event).ok();
                }
            }
        });
        let mut errors = child.stderr.take().unwrap();
        let (sender, stderr) = channel();
        thread::spawn(move || {
            let mut text = Vec::new();
            errors.read_to_end(&mut text).ok();
            sender
                .send(String::from_utf8_lossy(&text).into_owned())
                .ok();
        });
        Self {
            child,
            events,
            stderr,
        }
    }

    /// The next record; anything else fails the test.
    pub(crate) fn record(&self) -> RunRecord {
        match self.events.recv_timeout(DEADLINE) {
            Ok(ScanEvent::Record(record)) => *record,
            other => panic!("no record but {other:?}"),
        }
    }

    /// The next record's answer.
    pub(crate) fn answer(&self) -> String {
        let record = self.record();
        assert_eq!(record.status, RecordStatus::Success, "{record:?}");
        record.result.unwrap_or_default()
    }

    /// The next record's error.
    pub(crate) fn error(&self) -> String {
        let record = self.record();
        assert_eq!(record.status, RecordStatus::Error, "{record:?}");
        assert_eq!(record.result, None, "an error is not speech");
        record.error.unwrap()
    }

    /// Waits for the end; the exit code and standard error.
    pub(crate) fn exit(mut self) -> (i32, String) {
        let stderr = self
            .stderr
            .recv_timeout(DEADLINE)
            .expect("the runner does not end");
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        match self.events.recv_timeout(DEADLINE) {
            Err(RecvTimeoutError::Disconnected) => {}
            other => panic!("a record that was not expected: {other:?}\n{stderr}"),
        }
        (code, stderr)
    }

    /// Kills the runner like a machine that loses power.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.stderr
            .recv_timeout(DEADLINE)
            .expect("something outlived the runner");
    }
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    let (_nobody, pause) = channel::<()>();
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        pause.recv_timeout(Duration::from_millis(5)).unwrap_err();
    }
}

/// Asks a run to stop, as `docker stop` does.
pub(crate) fn terminate(run: &Run) {
    let pid = i32::try_from(run.child.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}
