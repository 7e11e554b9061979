//! One run of the real program in folders of its own.

use std::cell::Cell;
use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use drawbridge_shared::marker::{Markers, ScanEvent, Scanner};
use drawbridge_shared::protocol::{RecordStatus, RunRecord};
use drawbridge_testkit::engine::HostProcess;
use drawbridge_testkit::{PATIENCE, Program, nanoclaw, runner};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The variable by which processes of a run are found.
const VARIABLE: &str = "AGENTS_TEST";

/// What a record may hold in addition to NanoClaw's fields.
const DETAILS: [&str; 11] = [
    "kind",
    "errorKind",
    "retryAfterMs",
    "usage",
    "costUsd",
    "turns",
    "durationMs",
    "agent",
    "agentVersion",
    "notice",
    "progress",
];

/// The folders of a group with what the fake agents leave in them.
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

    /// A run document for an agent of any kind.
    pub(crate) fn document(&self, prompt: &str, kind: &str, command: &[&str]) -> Value {
        let agent = json!({ "kind": kind, "command": command });
        self.0.document("run-0011223344556677", prompt, &agent)
    }

    /// A run document for the fake of Claude Code.
    pub(crate) fn claude(&self, prompt: &str, scenario: &str) -> Value {
        let this = std::env::current_exe().unwrap();
        self.document(
            prompt,
            "claude",
            &[this.to_str().unwrap(), "fake-agent", scenario],
        )
    }

    pub(crate) fn close(&self) {
        self.0.close("");
    }

    pub(crate) fn heartbeat(&self) -> Value {
        let text = fs::read(self.path("ipc/heartbeat.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// What the fake agent was sent, in order.
    pub(crate) fn received(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("workspace/received.log")).unwrap_or_default();
        log.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The processes of its runs, by the variable that all of them inherit.
    pub(crate) fn processes(&self) -> Vec<HostProcess> {
        HostProcess::with_variable(VARIABLE, &self.root().display().to_string())
    }

    pub(crate) fn run(&self, document: &Value) -> Run {
        self.run_with(document, &[])
    }

    /// A run with variables of its own.
    pub(crate) fn run_with(&self, document: &Value, variables: &[(&str, &Path)]) -> Run {
        let mut run = Run::spawn(&Markers::new(None), self.root(), variables);
        run.write(document.to_string().as_bytes());
        run
    }

    /// All that a run prints, as text.
    pub(crate) fn raw_output(&self, document: &Value) -> String {
        let mut command = command();
        command
            .env("DRAWBRIDGE_AGENT", "no-such-agent")
            .env("HOME", self.path("home"));
        Program::run_with(&mut command, &document.to_string()).out
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

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_agent-runner"))
}

/// A running `agent-runner`.
pub(crate) struct Run {
    pub(crate) program: Program,
    events: Receiver<ScanEvent>,
    /// How many records were taken from the events.
    taken: Cell<usize>,
    is_marked_as_nanoclaws: bool,
}

impl Run {
    pub(crate) fn start(stdin: &[u8], markers: &Markers, cwd: &Path) -> Self {
        let mut run = Self::spawn(markers, cwd, &[]);
        run.write(stdin);
        run
    }

    /// A run whose standard input stays open.
    pub(crate) fn waiting(cwd: &Path) -> Self {
        Self::spawn(&Markers::new(None), cwd, &[])
    }

    fn spawn(markers: &Markers, cwd: &Path, variables: &[(&str, &Path)]) -> Self {
        let mut scanner = Scanner::new(markers.clone(), 64 << 20);
        let (sender, events) = channel();
        let program = Program::start_watched(
            command()
                .current_dir(cwd)
                .env_remove("DRAWBRIDGE_AGENT")
                .env("DRAWBRIDGE_LOG", "debug")
                .env(VARIABLE, cwd)
                .envs(variables.iter().copied()),
            move |bytes| {
                for event in scanner.push(bytes) {
                    sender.send(event).ok();
                }
            },
        );
        Self {
            program,
            events,
            taken: Cell::new(0),
            is_marked_as_nanoclaws: *markers == Markers::new(None),
        }
    }

    fn write(&mut self, stdin: &[u8]) {
        self.program.write(std::str::from_utf8(stdin).unwrap());
        self.program.close_stdin();
    }

    /// The next record; anything else fails the test.
    pub(crate) fn record(&self) -> RunRecord {
        self.taken.set(self.taken.get() + 1);
        match self.events.recv_timeout(PATIENCE) {
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

    /// Waits for the end; the exit code and standard error. NanoClaw's parser must
    /// have found the same records.
    pub(crate) fn exit(mut self) -> (i32, String) {
        let ended = self.program.wait();
        match self.events.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Disconnected) => {}
            other => panic!("a record that was not expected: {other:?}\n{}", ended.err),
        }
        if self.is_marked_as_nanoclaws {
            let records = nanoclaw::records(&ended.out);
            assert_eq!(records.len(), self.taken.get(), "records for NanoClaw");
            for record in &records {
                nanoclaw::check(record, &DETAILS);
            }
        }
        (ended.code, ended.err)
    }

    /// Asks for a stop, as `docker stop` does.
    pub(crate) fn terminate(&self) {
        self.program.signal(Signal::TERM);
    }

    /// Kills the runner like a machine that loses power. Nothing may outlive it
    /// and hold its output open.
    pub(crate) fn kill(mut self) {
        self.program.signal(Signal::KILL);
        assert_eq!(self.program.wait().code, 137);
    }
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    drawbridge_testkit::eventually(what, || holds().then_some(()));
}
