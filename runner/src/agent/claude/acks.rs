//! Which messages Claude Code has for good.

use std::collections::BTreeSet;

use crate::host::message::{MessageId, UserMessage};

/// Messages sent to one process and not confirmed.
///
/// `completed` is the state that is safe: `queued` and `started` are lost with
/// the process. A message that was folded into a running turn completes a
/// moment before the transcript has it, so it counts when that turn has ended.
/// `cancelled` comes after a failed or interrupted turn, whose messages are in
/// the transcript.
#[derive(Debug, Default)]
pub(super) struct Acks {
    unconfirmed: Vec<UserMessage>,
    completed: BTreeSet<MessageId>,
    turn_is_open: bool,
    /// Turns that have ended since all messages were confirmed.
    ended_turns: usize,
    /// Whether this version reports the lifecycle of messages.
    reports: bool,
}

impl Acks {
    pub(super) fn sent(&mut self, message: UserMessage) {
        self.unconfirmed.push(message);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.unconfirmed.is_empty()
    }

    pub(super) fn turn_begins(&mut self) {
        self.turn_is_open = true;
    }

    /// A message's state; returns what is received by it.
    pub(super) fn lifecycle(&mut self, id: MessageId, state: &str) -> Vec<MessageId> {
        self.reports = true;
        if matches!(state, "completed" | "cancelled") {
            self.completed.insert(id);
        }
        if self.turn_is_open {
            vec![]
        } else {
            self.confirm_completed()
        }
    }

    pub(super) fn turn_ends(&mut self) -> Vec<MessageId> {
        self.turn_is_open = false;
        self.ended_turns += 1;
        self.confirm_completed()
    }

    /// It says that it has nothing to do; what it has not read yet is not in
    /// that.
    pub(super) fn idle(&mut self) -> Vec<MessageId> {
        self.turn_is_open = false;
        self.confirm_completed()
    }

    /// Whether only silence can confirm what is left.
    pub(super) fn wait_for_silence(&self) -> bool {
        !self.reports && !self.unconfirmed.is_empty()
    }

    /// It has been silent for a while. A version that does not report the
    /// lifecycle of messages has worked off all of them then.
    pub(super) fn silent(&mut self) -> Vec<MessageId> {
        self.turn_is_open = false;
        if self.reports {
            self.confirm_completed()
        } else {
            self.confirm_all()
        }
    }

    /// Whether a turn runs, as far as its begin and its result show.
    pub(super) const fn turn_is_open(&self) -> bool {
        self.turn_is_open
    }

    /// The process has ended cleanly. A turn that was not ended has left
    /// nothing in the transcript. Where nothing is reported a turn for each
    /// message is the proof; without it the next process gets them all.
    pub(super) fn ended_well(&mut self) -> Vec<MessageId> {
        if self.turn_is_open {
            return vec![];
        }
        if self.reports {
            return self.confirm_completed();
        }
        if self.ended_turns >= self.unconfirmed.len() {
            return self.confirm_all();
        }
        vec![]
    }

    pub(super) fn take_unconfirmed(&mut self) -> Vec<UserMessage> {
        std::mem::take(&mut self.unconfirmed)
    }

    fn confirm_completed(&mut self) -> Vec<MessageId> {
        let completed = std::mem::take(&mut self.completed);
        let is_done = |message: &UserMessage| completed.contains(&message.id);
        let ids = self
            .unconfirmed
            .iter()
            .filter(|m| is_done(m))
            .map(|m| m.id)
            .collect();
        self.unconfirmed.retain(|message| !is_done(message));
        ids
    }

    fn confirm_all(&mut self) -> Vec<MessageId> {
        self.ended_turns = 0;
        self.take_unconfirmed()
            .iter()
            .map(|message| message.id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(acks: &mut Acks) -> MessageId {
        let message = UserMessage {
            id: MessageId::random(),
            text: "x".to_owned(),
        };
        acks.sent(message.clone());
        message.id
    }

    #[test]
    fn a_folded_message_counts_when_its_turn_has_ended() {
        let mut acks = Acks::default();
        let (first, second) = (sent(&mut acks), sent(&mut acks));
        acks.turn_begins();
        assert_eq!(acks.lifecycle(second, "completed"), []);
        assert_eq!(acks.lifecycle(first, "started"), []);
        assert_eq!(acks.turn_ends(), [second]);
        assert_eq!(acks.lifecycle(first, "completed"), [first]);
    }

    /// Folded and reported as completed, but the turn was left.
    #[test]
    fn a_turn_that_is_left_confirms_nothing() {
        let mut acks = Acks::default();
        let (_first, second) = (sent(&mut acks), sent(&mut acks));
        acks.turn_begins();
        acks.lifecycle(second, "completed");
        assert_eq!(acks.ended_well(), []);
        assert_eq!(acks.take_unconfirmed().len(), 2);
    }

    /// It rests after a turn that no message began, and has read none so far.
    #[test]
    fn rest_confirms_no_message_that_may_be_unread() {
        let mut acks = Acks::default();
        acks.turn_begins();
        let message = sent(&mut acks);
        acks.turn_ends();
        assert_eq!(acks.idle(), []);
        assert!(acks.wait_for_silence());
        assert_eq!(acks.silent(), [message]);
    }

    /// A process that ends without output has taken nothing.
    #[test]
    fn silence_confirms_nothing_at_the_end_of_the_process() {
        let mut acks = Acks::default();
        let (first, second) = (sent(&mut acks), sent(&mut acks));
        assert_eq!(acks.ended_well(), []);
        acks.turn_begins();
        assert_eq!(acks.ended_well(), [], "in the middle of a turn");
        acks.turn_ends();
        assert_eq!(acks.ended_well(), [], "one turn for two messages");
        acks.turn_begins();
        acks.turn_ends();
        assert_eq!(acks.ended_well(), [first, second]);
    }
}
