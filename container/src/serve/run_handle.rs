//! The control of a live run by clients and by the end of `serve`.

use drawbridge_shared::ids::GroupName;
use drawbridge_shared::ipc::HostMessage;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::submission::Kind;
use crate::error::{Error, Result};
use crate::requests::Reply;
use crate::run::RunControl;

/// Most commands that wait for a run.
const MAX_COMMANDS: usize = 1000;

/// A command to a live run, on its way through `serve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RunCommand {
    /// Delivers the follow-ups that the store has for the run.
    Deliver,
    /// Forwards a command that needs no place in the store.
    Forward(RunControl),
}

/// The control handle of a live run. Its other end is a [`RunInbox`].
#[derive(Debug)]
pub(super) struct RunHandle {
    pub(super) group: Option<GroupName>,
    /// Whether messages to the group are a part of this conversation.
    takes_messages: bool,
    commands: mpsc::Sender<RunCommand>,
    close: CancellationToken,
    stop: CancellationToken,
    /// Whether a client ended the run, so that it is not tried again.
    is_given_up: bool,
}

/// The end of a [`RunHandle`] that the run itself has.
#[derive(Debug)]
pub(super) struct RunInbox {
    pub(super) group: Option<GroupName>,
    pub(super) commands: mpsc::Receiver<RunCommand>,
    /// Cancelled when no more follow-ups may come.
    pub(super) close: CancellationToken,
    /// Cancelled when the run has to end now.
    pub(super) stop: CancellationToken,
}

impl RunHandle {
    pub(super) fn new(group: Option<GroupName>, kind: Kind) -> (Self, RunInbox) {
        let (sender, commands) = mpsc::channel(MAX_COMMANDS);
        let (close, stop) = (CancellationToken::new(), CancellationToken::new());
        let handle = Self {
            group: group.clone(),
            takes_messages: kind == Kind::Message,
            commands: sender,
            close: close.clone(),
            stop: stop.clone(),
            is_given_up: false,
        };
        let inbox = RunInbox {
            group,
            commands,
            close,
            stop,
        };
        (handle, inbox)
    }

    /// Whether a message to this group is a follow-up of this run.
    pub(super) fn takes_messages_to(&self, group: &GroupName) -> bool {
        self.takes_messages && self.group.as_ref() == Some(group) && !self.close.is_cancelled()
    }

    /// Announces a follow-up that the store has.
    pub(super) fn deliver(&self) {
        // The run reads the store after each command that it takes. So this one is
        // needed only when no other waits.
        if self.commands.capacity() == self.commands.max_capacity() {
            let _ = self.commands.try_send(RunCommand::Deliver);
        }
    }

    /// Stops the agent's present turn.
    ///
    /// # Errors
    /// Too many commands wait.
    pub(super) fn interrupt(&self) -> Result<()> {
        self.forward(RunControl::Message(HostMessage::Interrupt))
            .ok_or_else(|| Error::full("too many commands wait for this run"))
    }

    /// Answers a request of the agent.
    ///
    /// # Errors
    /// Too many commands wait.
    pub(super) fn answer(&self, request: String, reply: Reply) -> Result<()> {
        self.forward(RunControl::Answer { id: request, reply })
            .ok_or_else(|| Error::full("too many answers wait for this run"))
    }

    /// Forwards a command; `None` when too many wait.
    fn forward(&self, control: RunControl) -> Option<()> {
        self.commands.try_send(RunCommand::Forward(control)).ok()
    }

    /// Ends the conversation after its present turn.
    pub(super) fn close(&self) {
        self.close.cancel();
    }

    /// Ends the run now.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends the run now and for good.
    pub(super) fn give_up(&mut self) {
        self.is_given_up = true;
        self.stop();
    }

    pub(super) const fn is_given_up(&self) -> bool {
        self.is_given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> Reply {
        Reply::accepted(None)
    }

    #[tokio::test]
    async fn commands_are_bounded_and_a_follow_up_is_announced_once() {
        let (mut handle, mut inbox) = RunHandle::new(None, Kind::Message);
        handle.deliver();
        handle.deliver();
        for n in 1..MAX_COMMANDS {
            handle.answer(n.to_string(), reply()).unwrap();
        }
        assert!(handle.answer(String::new(), reply()).unwrap_err().is_full());
        assert!(handle.interrupt().unwrap_err().is_full());
        // What must not be lost needs no place among them.
        handle.close();
        handle.give_up();
        assert!(inbox.close.is_cancelled() && inbox.stop.is_cancelled());
        assert_eq!(inbox.commands.recv().await, Some(RunCommand::Deliver));
        for n in 1..MAX_COMMANDS {
            let id = n.to_string();
            let answer = RunControl::Answer { id, reply: reply() };
            let forwarded = Some(RunCommand::Forward(answer));
            assert_eq!(inbox.commands.recv().await, forwarded);
        }
        handle.deliver();
        assert_eq!(inbox.commands.recv().await, Some(RunCommand::Deliver));
    }
}
