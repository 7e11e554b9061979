//! A scenario: a few wild runs in one folder, and a calm one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::check::{self, Done};
use crate::host::{Group, Run};

const PROTOCOLS: [&str; 4] = ["claude", "codex", "acp", "command"];

/// What a host does to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Message,
    Burst(u32),
    Interrupt,
    Compact,
    Clear,
    SetModel,
    Cancel,
    Close,
    Terminate,
    KillAgent,
    KillSupervisor,
    KillRunner,
}

impl Action {
    fn random(rng: &mut Rng, is_command: bool) -> Self {
        match rng.u32(0..100) {
            0..35 => Self::Message,
            35..45 => Self::Burst(rng.u32(2..30)),
            45..60 => Self::Interrupt,
            60..64 => Self::Compact,
            64..68 => Self::Clear,
            68..72 => Self::SetModel,
            72..74 => Self::Cancel,
            74..80 => Self::Close,
            80..84 => Self::Terminate,
            84..88 => Self::KillSupervisor,
            88..92 => Self::KillRunner,
            // Such a program is one turn, and its death is that turn's answer.
            _ if is_command => Self::Message,
            _ => Self::KillAgent,
        }
    }
}

pub(crate) struct Scenario {
    rng: Rng,
    pub(crate) group: Group,
    pub(crate) protocol: &'static str,
    seed: u64,
    run: u64,
    /// Texts of the messages that were sent as files.
    pub(crate) sent: Vec<String>,
    /// Messages whose turns were interrupted before anybody had read them.
    pub(crate) dropped: BTreeSet<String>,
    /// All runs so far.
    pub(crate) done: Vec<Done>,
}

/// Plays one scenario; an error says what went wrong, and how it came to that.
pub(crate) fn play(seed: u64, number: u64, runs: &AtomicU64) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let mut scenario = Scenario {
        protocol: PROTOCOLS[rng.usize(0..PROTOCOLS.len())],
        seed: rng.u64(..),
        rng,
        group: Group::new(),
        run: 0,
        sent: Vec::new(),
        dropped: BTreeSet::new(),
        done: Vec::new(),
    };
    for _ in 0..scenario.rng.u32(1..5) {
        scenario.wild_run()?;
        runs.fetch_add(1, Ordering::Relaxed);
    }
    scenario.calm_run()?;
    runs.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

impl Scenario {
    fn wild_run(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.u32(0..4) {
            self.message();
        }
        let is_command = self.protocol == "command";
        let count = self.rng.u32(0..14);
        let actions: Vec<_> = (0..count)
            .map(|_| Action::random(&mut self.rng, is_command))
            .collect();
        // Whom the runner cannot clear away, a test machine has to.
        let mode = if actions.contains(&Action::KillRunner) {
            "wild-alone"
        } else {
            "wild"
        };
        let run = self.start(mode, 2);
        for action in &actions {
            self.pause();
            self.perform(*action, &run);
        }
        self.pause();
        self.group.close(&self.run_id());
        self.end(run, actions, false)
    }

    fn calm_run(&mut self) -> Result<(), String> {
        let run = self.start("calm", 60);
        self.message();
        self.message();
        self.group.close(&self.run_id());
        self.end(run, Vec::new(), true)
    }

    fn start(&mut self, mode: &str, stuck_after: u64) -> Run {
        self.run += 1;
        let this = std::env::current_exe().unwrap();
        let command = json!([
            this,
            "fake-agent",
            self.protocol,
            self.seed.to_string(),
            self.run.to_string(),
            mode
        ]);
        let agent = json!({"kind": self.protocol, "command": command});
        let run_id = self.run_id();
        let prompt = format!("prompt of {run_id}");
        let mut document = self.group.document(&run_id, &prompt, &agent);
        document["drawbridge"]["stuckAfterSeconds"] = stuck_after.into();
        if self.rng.bool() {
            document["sessionId"] = "01a1fbbd-d35a-7232-ba32-000000000001".into();
        }
        Run::start(&self.group, &document)
    }

    fn run_id(&self) -> String {
        format!("run-{:05}", self.run)
    }

    fn perform(&mut self, action: Action, run: &Run) {
        let group = &self.group;
        let request = |kind: &str| group.send(&json!({"type": kind}));
        match action {
            Action::Message => self.message(),
            Action::Burst(count) => (0..count).for_each(|_| self.message()),
            Action::Interrupt => request("interrupt"),
            Action::Compact => request("compact"),
            Action::Clear => request("clear"),
            Action::Cancel => request("cancel"),
            Action::SetModel => group.send(&json!({"type": "set_model", "model": "other"})),
            Action::Close => group.close(""),
            Action::Terminate => run.terminate(),
            Action::KillRunner => run.signal(Signal::KILL),
            Action::KillSupervisor => {
                group.kill(|line| line.contains(" supervise "));
            }
            Action::KillAgent => {
                group.kill(|line| line.contains(" fake-agent ") && !line.contains(" tied "));
            }
        }
    }

    fn end(&mut self, run: Run, actions: Vec<Action>, is_calm: bool) -> Result<(), String> {
        let ended = run
            .end()
            .map_err(|error| self.describe(&error, &actions, ""))?;
        let alone = actions.contains(&Action::KillRunner);
        let errors = ended.errors.clone();
        let done = Done::new(self.run, actions.clone(), ended);
        self.done.push(done);
        let checked = self
            .group
            .wait_until_empty(|line| alone && line.starts_with("sleep "))
            .and_then(|()| check::run(self))
            .and_then(|dropped| {
                self.dropped.extend(dropped);
                if is_calm {
                    check::calm_end(self)
                } else {
                    Ok(())
                }
            });
        checked.map_err(|error| self.describe(&error, &actions, &errors))
    }

    fn message(&mut self) {
        let text = format!("message-{:05}", self.sent.len());
        self.group.send(&json!({"type": "message", "text": text}));
        self.sent.push(text);
    }

    /// A part of the chaos, not a wait for something.
    fn pause(&mut self) {
        let most = if self.rng.bool() { 10 } else { 120 };
        thread::park_timeout(Duration::from_millis(self.rng.u64(0..most)));
    }

    fn describe(&self, error: &str, actions: &[Action], errors: &str) -> String {
        let log = std::fs::read_to_string(self.group.path("workspace/log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(80).collect();
        let log: Vec<_> = lines.into_iter().rev().collect();
        let records: Vec<Value> = self
            .done
            .last()
            .map(|done| done.records.iter().map(|record| json!(record)).collect())
            .unwrap_or_default();
        format!(
            "{} run {}: {error}\nacts {actions:?}\nrecords {records:#?}\nlog:\n{}\nstderr:\n{errors}",
            self.protocol,
            self.run,
            log.join("\n")
        )
    }
}
