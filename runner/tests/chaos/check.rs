//! What must hold after each run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use drawbridge_shared::marker::ScanEvent;
use drawbridge_shared::protocol::{ErrorKind, RecordKind, RecordStatus, RunRecord};
use serde_json::Value;

use crate::host::Ended;
use crate::story::{Act, Story};

/// A run that is over.
pub(crate) struct Done {
    number: u64,
    acts: Vec<Act>,
    code: Option<i32>,
    pub(crate) records: Vec<RunRecord>,
    malformed: bool,
}

impl Done {
    pub(crate) fn new(number: u64, acts: Vec<Act>, ended: Ended) -> Self {
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
            acts,
            code,
            records,
            malformed,
        }
    }

    fn was(&self, act: Act) -> bool {
        self.acts.contains(&act)
    }

    fn was_killed(&self) -> bool {
        self.was(Act::KillRunner) || self.was(Act::KillSupervisor)
    }

    /// Whether the agent was not left the time to end its work.
    fn was_cut_short(&self) -> bool {
        let gave_up = |record: &RunRecord| record.details.error_kind == Some(ErrorKind::Timeout);
        self.was_killed()
            || self.was(Act::Terminate)
            || self.was(Act::Cancel)
            || self.records.iter().any(gave_up)
    }
}

/// A text that an agent has taken for good.
struct Delivery {
    run: u64,
    process: String,
}

/// What the agents of a story have noted.
#[derive(Default)]
struct Log {
    deliveries: BTreeMap<String, Vec<Delivery>>,
    answers: Vec<(String, u64, String)>,
    clean: BTreeSet<String>,
    /// Runs whose agent was started.
    started: BTreeSet<u64>,
}

impl Log {
    fn read(story: &Story) -> Self {
        let text = fs::read_to_string(story.group.path("workspace/log")).unwrap_or_default();
        let mut log = Self::default();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| line[key].as_str().map(str::to_owned);
            let run = line["run"].as_u64().unwrap_or_default();
            log.started.extend(line["start"].as_u64());
            if let (Some(text), Some(process)) = (text("text"), text("process")) {
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

    fn has_started(&self, run: &Done) -> bool {
        self.started.contains(&run.number)
    }
}

/// Checks the run that has just ended.
pub(crate) fn run(story: &Story) -> Result<(), String> {
    let log = Log::read(story);
    let run = story.done.last().unwrap();
    end(run, &log)?;
    nothing_is_lost(story, &log)?;
    nothing_comes_twice(story, &log)?;
    every_answer_is_told(story, run, &log)
}

/// The exit code fits the records, and there is one.
fn end(run: &Done, log: &Log) -> Result<(), String> {
    let last = run.records.last();
    let last_failed = last.map(|record| record.status) == Some(RecordStatus::Error);
    let any_failed = run.records.iter().any(|record| record.error.is_some());
    let fits = match run.code {
        Some(0) => last.is_some() && !last_failed,
        Some(1) => any_failed,
        Some(130) => run.was(Act::Terminate),
        Some(137) => run.was_killed(),
        // Or by the signal that came before the program could handle one.
        None => run.was(Act::KillRunner) || run.was(Act::Terminate),
        _ => false,
    };
    if !fits {
        return Err(format!("exit code {:?} does not fit", run.code));
    }
    // Only a run that was stopped in its first moments ends without a record.
    let has_begun = log.has_started(run) || !run.was(Act::Terminate);
    if last.is_none() && has_begun && !run.was_killed() {
        return Err("there is no record".to_owned());
    }
    if run.malformed && !run.was_killed() {
        return Err("a record is not whole".to_owned());
    }
    Ok(())
}

/// Each message was taken by an agent, or is still on disk.
fn nothing_is_lost(story: &Story, log: &Log) -> Result<(), String> {
    let mut on_disk = String::new();
    for folder in ["ipc/input", "ipc/input/.taken"] {
        for entry in fs::read_dir(story.group.path(folder))
            .into_iter()
            .flatten()
            .flatten()
        {
            on_disk += &fs::read_to_string(entry.path()).unwrap_or_default();
        }
    }
    let is_safe =
        |text: &String| log.deliveries.contains_key(text) || on_disk.contains(text.as_str());
    let lost: Vec<_> = story.sent.iter().filter(|text| !is_safe(text)).collect();
    // A program that is stopped before it has read its message was its turn;
    // the record says so.
    let is_told = |record: &&RunRecord| {
        record.error.is_some() || record.details.kind == Some(RecordKind::Interrupted)
    };
    let told = story
        .done
        .iter()
        .flat_map(|run| &run.records)
        .filter(is_told);
    let turns_without_end = if story.protocol == "command" {
        told.count()
    } else {
        0
    };
    // Its prompt has what waited at the start behind it.
    if lost.is_empty() || turns_without_end > 0 {
        return Ok(());
    }
    Err(format!("lost: {lost:?}"))
}

/// A message comes again only after a process that did not end in order.
fn nothing_comes_twice(story: &Story, log: &Log) -> Result<(), String> {
    for (text, deliveries) in &log.deliveries {
        for pair in deliveries.windows(2) {
            let [first, second] = pair else { continue };
            let run = story
                .done
                .iter()
                .find(|done| done.number == first.run)
                .unwrap();
            let was_unclean = !log.clean.contains(&first.process) || run.was_cut_short();
            if first.process == second.process || !was_unclean {
                return Err(format!("{text} came twice, first to {}", first.process));
            }
        }
    }
    Ok(())
}

/// What an agent that ended in order has answered is in a record.
fn every_answer_is_told(story: &Story, run: &Done, log: &Log) -> Result<(), String> {
    // An interrupt may come while a program that has answered is ending.
    let is_interrupt = |record: &RunRecord| record.details.kind == Some(RecordKind::Interrupted);
    let is_cut = story.protocol == "command" && run.records.iter().any(is_interrupt);
    if run.was_cut_short() || is_cut {
        return Ok(());
    }
    let told: BTreeSet<_> = run
        .records
        .iter()
        .filter_map(|r| r.result.as_deref())
        .collect();
    let ours = log
        .answers
        .iter()
        .filter(|(_, number, _)| *number == run.number);
    for (answer, _, process) in ours.filter(|(_, _, process)| log.clean.contains(process)) {
        // What a command prints before its answer is part of it.
        if !told.iter().any(|told| told.ends_with(answer.as_str())) {
            return Err(format!("{answer} of {process} is in no record"));
        }
    }
    Ok(())
}

/// After a calm run nothing waits any more.
pub(crate) fn calm_end(story: &Story) -> Result<(), String> {
    let run = story.done.last().unwrap();
    let log = Log::read(story);
    if run.code != Some(0) {
        return Err(format!("a calm run ends with {:?}", run.code));
    }
    let missing = story
        .sent
        .iter()
        .find(|text| story.protocol != "command" && !log.deliveries.contains_key(*text));
    if let Some(text) = missing {
        return Err(format!("{text} was never delivered"));
    }
    for folder in ["ipc/input", "ipc/input/.taken"] {
        let entries = fs::read_dir(story.group.path(folder))
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
