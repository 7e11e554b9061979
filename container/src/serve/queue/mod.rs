//! The queue of submissions. It is pure: nothing here waits, reads or writes, and
//! times are given.
//!
//! Groups take turns. A group has one run at a time, its tasks come before its
//! messages, and each of the two kinds keeps its order, also while the first in
//! the line waits to be tried again. What belongs to no group shares one turn.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::time::Instant;

use drawbridge_shared::ids::GroupName;

use crate::serve::submission::{Kind, SubmissionId};

/// Bounds of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) runs: NonZeroUsize,
    /// Waiting submissions of one group, or of those without one.
    pub(crate) waiting_per_group: usize,
    /// Waiting submissions of all.
    pub(crate) waiting: usize,
}

/// Submissions that wait, and those that run.
#[derive(Debug)]
pub(crate) struct Queue {
    limits: Limits,
    /// Each group that has something; those at the front were served longest ago.
    turns: VecDeque<Option<GroupName>>,
    lines: HashMap<Option<GroupName>, Line>,
    running: HashMap<SubmissionId, Option<GroupName>>,
    waiting: usize,
}

/// The waiting submissions of one group, in the order of their numbers, with
/// the time from which each may start.
#[derive(Debug, Default)]
struct Line {
    tasks: BTreeMap<SubmissionId, Instant>,
    messages: BTreeMap<SubmissionId, Instant>,
    running: usize,
}

impl Line {
    const fn of_kind(&mut self, kind: Kind) -> &mut BTreeMap<SubmissionId, Instant> {
        match kind {
            Kind::Task => &mut self.tasks,
            Kind::Message => &mut self.messages,
        }
    }

    fn len(&self) -> usize {
        self.tasks.len() + self.messages.len()
    }

    /// Those that may be next: in a group the first of each kind.
    fn candidates(&self, is_group: bool) -> impl Iterator<Item = (SubmissionId, Kind, Instant)> {
        let first = if is_group { 1 } else { usize::MAX };
        let is_free = !is_group || self.running == 0;
        let of = move |line: &BTreeMap<SubmissionId, Instant>, kind| {
            let some = line.iter().take(if is_free { first } else { 0 });
            some.map(move |(id, due)| (*id, kind, *due))
                .collect::<Vec<_>>()
        };
        let tasks = of(&self.tasks, Kind::Task);
        tasks.into_iter().chain(of(&self.messages, Kind::Message))
    }
}

impl Queue {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            turns: VecDeque::new(),
            lines: HashMap::new(),
            running: HashMap::new(),
            waiting: 0,
        }
    }

    /// Whether there is room for one more of this group.
    pub(crate) fn has_capacity(&self, group: Option<&GroupName>) -> bool {
        let of_group = self.lines.get(&group.cloned()).map_or(0, Line::len);
        of_group < self.limits.waiting_per_group && self.waiting < self.limits.waiting
    }

    /// Adds what may start at `due`.
    pub(crate) fn push(
        &mut self,
        id: SubmissionId,
        group: Option<GroupName>,
        kind: Kind,
        due: Instant,
    ) {
        if !self.lines.contains_key(&group) {
            self.turns.push_back(group.clone());
        }
        let line = self.lines.entry(group).or_default();
        if line.of_kind(kind).insert(id, due).is_none() {
            self.waiting += 1;
        }
    }

    /// Takes the next one that may start at `now`; it runs until
    /// [`Self::finish`].
    pub(crate) fn take(&mut self, now: Instant) -> Option<SubmissionId> {
        if self.running.len() >= self.limits.runs.get() {
            return None;
        }
        let (turn, id, kind) = self.turns.iter().enumerate().find_map(|(turn, group)| {
            let mut due = self.lines.get(group)?.candidates(group.is_some());
            let (id, kind, _) = due.find(|(_, _, due)| *due <= now)?;
            Some((turn, id, kind))
        })?;
        let group = self.turns.remove(turn)?;
        if let Some(line) = self.lines.get_mut(&group) {
            line.of_kind(kind).remove(&id);
            line.running += 1;
        }
        self.waiting -= 1;
        self.running.insert(id, group.clone());
        self.turns.push_back(group);
        Some(id)
    }

    /// A run is over, whatever becomes of its submission.
    pub(crate) fn finish(&mut self, id: SubmissionId) {
        let Some(group) = self.running.remove(&id) else {
            return;
        };
        if let Some(line) = self.lines.get_mut(&group) {
            line.running -= 1;
            self.remove_if_empty(&group);
        }
    }

    /// Takes a waiting submission out; false when it does not wait.
    pub(crate) fn remove(&mut self, id: SubmissionId) -> bool {
        let found = self.lines.iter_mut().find_map(|(group, line)| {
            let removed = line.tasks.remove(&id).or_else(|| line.messages.remove(&id));
            removed.map(|_| group.clone())
        });
        let Some(group) = found else {
            return false;
        };
        self.waiting -= 1;
        self.remove_if_empty(&group);
        true
    }

    fn remove_if_empty(&mut self, group: &Option<GroupName>) {
        let line = self.lines.get(group);
        if line.is_some_and(|line| line.running == 0 && line.len() == 0) {
            self.lines.remove(group);
            self.turns.retain(|turn| turn != group);
        }
    }

    /// When something that waits now may start, if no run ends before.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if self.running.len() >= self.limits.runs.get() {
            return None;
        }
        let lines = self.lines.iter();
        lines
            .flat_map(|(group, line)| line.candidates(group.is_some()))
            .map(|(_, _, due)| due)
            .min()
    }

    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests;
