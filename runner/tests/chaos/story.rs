//! A story: a few wild runs in one folder, and a calm one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::check::{self, Done};
use crate::host::{Group, Run, document};

const PROTOCOLS: [&str; 4] = ["claude", "codex", "acp", "command"];

/// What a host does to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
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

impl Act {
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

pub(crate) struct Story {
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

/// Tells one story; an error says what went wrong, and how it came to that.
pub(crate) fn tell(seed: u64, number: u64, runs: &AtomicU64) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let mut story = Story {
        protocol: PROTOCOLS[rng.usize(0..PROTOCOLS.len())],
        seed: rng.u64(..),
        rng,
        group: Group::new(),
        run: 0,
        sent: Vec::new(),
        dropped: BTreeSet::new(),
        done: Vec::new(),
    };
    for _ in 0..story.rng.u32(1..5) {
        story.wild_run()?;
        runs.fetch_add(1, Ordering::Relaxed);
    }
    story.calm_run()?;
    runs.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

impl Story {
    fn wild_run(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.u32(0..4) {
            self.message();
        }
        let is_command = self.protocol == "command";
        let count = self.rng.u32(0..14);
        let acts: Vec<_> = (0..count)
            .map(|_| Act::random(&mut self.rng, is_command))
            .collect();
        // Whom the runner cannot clear away, a test machine has to.
        let mood = if acts.contains(&Act::KillRunner) {
            "wild-alone"
        } else {
            "wild"
        };
        let run = self.start(mood, 2);
        for act in &acts {
            self.pause();
            self.act(*act, &run);
        }
        self.pause();
        self.group.close(&self.run_id());
        self.end(run, acts, false)
    }

    fn calm_run(&mut self) -> Result<(), String> {
        let run = self.start("calm", 60);
        self.message();
        self.message();
        self.group.close(&self.run_id());
        self.end(run, Vec::new(), true)
    }

    fn start(&mut self, mood: &str, stuck_after: u64) -> Run {
        self.run += 1;
        let this = std::env::current_exe().unwrap();
        let command = json!([
            this,
            "stand-in",
            self.protocol,
            self.seed.to_string(),
            self.run.to_string(),
            mood
        ]);
        let agent = json!({"kind": self.protocol, "command": command});
        let mut document = document(&self.group, &self.run_id(), &agent, stuck_after);
        if self.rng.bool() {
            document["sessionId"] = "01a1fbbd-d35a-7232-ba32-000000000001".into();
        }
        Run::start(&self.group, &document)
    }

    fn run_id(&self) -> String {
        format!("run-{:05}", self.run)
    }

    fn act(&mut self, act: Act, run: &Run) {
        let group = &self.group;
        let request = |kind: &str| group.send(&json!({"type": kind}));
        match act {
            Act::Message => self.message(),
            Act::Burst(count) => (0..count).for_each(|_| self.message()),
            Act::Interrupt => request("interrupt"),
            Act::Compact => request("compact"),
            Act::Clear => request("clear"),
            Act::Cancel => request("cancel"),
            Act::SetModel => group.send(&json!({"type": "set_model", "model": "other"})),
            Act::Close => group.close(""),
            Act::Terminate => run.terminate(),
            Act::KillRunner => run.signal(Signal::KILL),
            Act::KillSupervisor => {
                group.kill(|line| line.contains(" supervise "));
            }
            Act::KillAgent => {
                group.kill(|line| line.contains(" stand-in ") && !line.contains(" tied "));
            }
        }
    }

    fn end(&mut self, run: Run, acts: Vec<Act>, is_calm: bool) -> Result<(), String> {
        let ended = run
            .end()
            .map_err(|error| self.describe(&error, &acts, ""))?;
        let alone = acts.contains(&Act::KillRunner);
        let errors = ended.errors.clone();
        let done = Done::new(self.run, acts.clone(), ended);
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
        checked.map_err(|error| self.describe(&error, &acts, &errors))
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

    fn describe(&self, error: &str, acts: &[Act], errors: &str) -> String {
        let log = std::fs::read_to_string(self.group.path("workspace/log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(80).collect();
        let log: Vec<_> = lines.into_iter().rev().collect();
        let records: Vec<Value> = self
            .done
            .last()
            .map(|done| done.records.iter().map(|record| json!(record)).collect())
            .unwrap_or_default();
        format!(
            "{} run {}: {error}\nacts {acts:?}\nrecords {records:#?}\nlog:\n{}\nstderr:\n{errors}",
            self.protocol,
            self.run,
            log.join("\n")
        )
    }
}
