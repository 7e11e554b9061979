//! What must hold after each run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use drawbridge_shared::marker::ScanEvent;
use drawbridge_shared::protocol::{ErrorKind, RecordKind, RecordStatus, RunRecord};
use serde_json::Value;

use crate::host::Ended;
use crate::scenario::{Action, Scenario};

/// A run that is over.
pub(crate) struct Done {
    number: u64,
    actions: Vec<Action>,
    code: Option<i32>,
    pub(crate) records: Vec<RunRecord>,
    malformed: bool,
}

impl Done {
    pub(crate) fn new(number: u64, actions: Vec<Action>, ended: Ended) -> Self {
        let code = ended.code();
        let mut records = Vec::new();
        let mut malformed = false;
        for event in ended.events {
            match event {
                ScanEvent::Record(record) => records.push(*record),
                ScanEvent::Malformed { .. } => malformed = true,
            }
        }
        Self {
            number,
            actions,
            code,
            records,
            malformed,
        }
    }

    fn was(&self, action: Action) -> bool {
        self.actions.contains(&action)
    }

    fn was_killed(&self) -> bool {
        self.was(Action::KillRunner) || self.was(Action::KillSupervisor)
    }

    /// Whether the run was told to end whatever its agent was doing.
    fn was_told_to_end(&self) -> bool {
        let gave_up = |record: &RunRecord| record.details.error_kind == Some(ErrorKind::Timeout);
        self.was(Action::Terminate) || self.was(Action::Cancel) || self.records.iter().any(gave_up)
    }

    /// How many turns were interrupted, as far as the records tell.
    fn interrupted(&self) -> usize {
        let is_it = |record: &&RunRecord| record.details.kind == Some(RecordKind::Interrupted);
        self.records.iter().filter(is_it).count()
    }
}

/// A text that an agent has taken for good.
struct Delivery {
    run: u64,
    process: String,
}

/// What the agents of a scenario have noted.
#[derive(Default)]
struct Log {
    deliveries: BTreeMap<String, Vec<Delivery>>,
    answers: Vec<(String, u64, String)>,
    clean: BTreeSet<String>,
    /// The process that was started last, for each run.
    last: BTreeMap<u64, String>,
}

impl Log {
    fn read(scenario: &Scenario) -> Self {
        let text = fs::read_to_string(scenario.group.path("workspace/log")).unwrap_or_default();
        let mut log = Self::default();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| line[key].as_str().map(str::to_owned);
            let run = line["run"].as_u64().unwrap_or_default();
            if line["start"].is_u64() {
                log.last.extend(line["start"].as_u64().zip(text("process")));
            } else if let (Some(text), Some(process)) = (text("text"), text("process")) {
                let delivery = Delivery { run, process };
                log.deliveries.entry(text).or_default().push(delivery);
            } else if let (Some(answer), Some(process)) = (text("answer"), text("process")) {
                log.answers.push((answer, run, process));
            } else if let Some(process) = text("clean") {
                log.clean.insert(process);
            }
        }
        log
    }

    fn has(&self, text: &str) -> bool {
        self.deliveries.contains_key(text)
    }

    /// Whether a process that ended in order may have done so unseen: it was at
    /// work when its run was killed. A program of the `command` agent ends by the
    /// signal that stops it, so being told to end is enough.
    fn may_have_ended_unseen(&self, scenario: &Scenario, run: &Done, process: &str) -> bool {
        let is_last = self
            .last
            .get(&run.number)
            .is_some_and(|last| last == process);
        let is_told = scenario.protocol == "command" && run.was_told_to_end();
        is_last && (run.was_killed() || is_told)
    }
}

/// Checks the run that has just ended. Returns the messages whose turns were
/// interrupted before their program had read them.
pub(crate) fn run(scenario: &Scenario) -> Result<Vec<String>, String> {
    let log = Log::read(scenario);
    let run = scenario.done.last().unwrap();
    end(run)?;
    let dropped = nothing_is_lost(scenario, run, &log)?;
    nothing_comes_twice(scenario, &log)?;
    every_answer_is_told_once(scenario, run, &log)?;
    Ok(dropped)
}

/// The exit code fits the records, and there is one.
fn end(run: &Done) -> Result<(), String> {
    let last = run.records.last();
    let last_failed = last.map(|record| record.status) == Some(RecordStatus::Error);
    let any_failed = run.records.iter().any(|record| record.error.is_some());
    let fits = match run.code {
        Some(0) => last.is_some() && !last_failed,
        Some(1) => any_failed,
        Some(130) => run.was(Action::Terminate),
        Some(137) => run.was_killed(),
        None => run.was(Action::KillRunner),
        _ => false,
    };
    if !fits {
        return Err(format!("exit code {:?} does not fit", run.code));
    }
    if last.is_none() && !run.was_killed() {
        return Err("there is no record".to_owned());
    }
    if run.malformed && !run.was_killed() {
        return Err("a record is not whole".to_owned());
    }
    Ok(())
}

/// Each message was taken by an agent, or is still on disk. Only a program of
/// the `command` agent can be interrupted before it has read its message; such
/// a message was its turn, and the record says so.
fn nothing_is_lost(scenario: &Scenario, run: &Done, log: &Log) -> Result<Vec<String>, String> {
    let mut on_disk = String::new();
    for folder in ["ipc/input", "ipc/input/.taken"] {
        for entry in fs::read_dir(scenario.group.path(folder))
            .into_iter()
            .flatten()
            .flatten()
        {
            on_disk += &fs::read_to_string(entry.path()).unwrap_or_default();
        }
    }
    let is_safe = |text: &String| {
        log.has(text) || on_disk.contains(text.as_str()) || scenario.dropped.contains(text)
    };
    let missing: Vec<_> = scenario
        .sent
        .iter()
        .filter(|text| !is_safe(text))
        .cloned()
        .collect();
    let mut turns = missing.len();
    // The first turn has all that waited at the start, behind the prompt.
    if !log.has(&format!("prompt of run-{:05}", run.number)) {
        let was_due = |text: &&String| {
            let earlier = log.deliveries.get(*text).map(|all| all[0].run);
            earlier.is_none_or(|earlier| earlier == run.number) && !scenario.dropped.contains(*text)
        };
        let due = scenario.sent.iter().filter(was_due);
        let joined = due.take_while(|text| missing.contains(text)).count();
        turns -= joined.saturating_sub(1);
    }
    if turns == 0 || scenario.protocol == "command" && turns <= run.interrupted() {
        return Ok(missing);
    }
    Err(format!("lost: {missing:?}"))
}

/// A message comes again only after a process that did not end in order, or
/// that was at work when its run was killed.
fn nothing_comes_twice(scenario: &Scenario, log: &Log) -> Result<(), String> {
    for (text, deliveries) in &log.deliveries {
        for pair in deliveries.windows(2) {
            let [first, second] = pair else { continue };
            let run = scenario
                .done
                .iter()
                .find(|done| done.number == first.run)
                .unwrap();
            let may_repeat = !log.clean.contains(&first.process)
                || log.may_have_ended_unseen(scenario, run, &first.process);
            if first.process == second.process || !may_repeat {
                return Err(format!("{text} came twice, first to {}", first.process));
            }
        }
    }
    Ok(())
}

/// What an agent that ended in order has answered is in one record.
fn every_answer_is_told_once(scenario: &Scenario, run: &Done, log: &Log) -> Result<(), String> {
    let is_command = scenario.protocol == "command";
    // What a command prints before its answer is part of it.
    let is_it = |told: &str, answer: &str| {
        told == answer || is_command && told.ends_with(&format!("\n{answer}"))
    };
    // An interrupt may come while a program that has answered is ending.
    let mut cut = if is_command { run.interrupted() } else { 0 };
    let ours = log
        .answers
        .iter()
        .filter(|(_, number, _)| *number == run.number);
    for (answer, _, process) in ours {
        let told = run.records.iter().filter_map(|r| r.result.as_deref());
        let count = told.filter(|told| is_it(told, answer)).count();
        if count > 1 {
            return Err(format!("{answer} of {process} is in {count} records"));
        }
        let must_be_told =
            log.clean.contains(process) && !log.may_have_ended_unseen(scenario, run, process);
        if count == 0 && must_be_told {
            cut = cut
                .checked_sub(1)
                .ok_or_else(|| format!("{answer} of {process} is in no record"))?;
        }
    }
    Ok(())
}

/// After a calm run nothing waits any more.
pub(crate) fn calm_end(scenario: &Scenario) -> Result<(), String> {
    let run = scenario.done.last().unwrap();
    let log = Log::read(scenario);
    if run.code != Some(0) {
        return Err(format!("a calm run ends with {:?}", run.code));
    }
    let missing = scenario
        .sent
        .iter()
        .find(|text| !log.has(text) && !scenario.dropped.contains(*text));
    if let Some(text) = missing {
        return Err(format!("{text} was never delivered"));
    }
    for folder in ["ipc/input", "ipc/input/.taken"] {
        let entries = fs::read_dir(scenario.group.path(folder))
            .into_iter()
            .flatten()
            .flatten();
        let names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        let left: Vec<_> = names
            .iter()
            .filter(|name| !name.to_string_lossy().starts_with('.'))
            .collect();
        if !left.is_empty() {
            return Err(format!("left behind: {left:?}"));
        }
    }
    Ok(())
}
