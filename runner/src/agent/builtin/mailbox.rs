//! Commands that arrive while the agent works.

use std::collections::VecDeque;
use std::pin::pin;

use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::agent::types::AgentCommand;
use crate::host::message::UserMessage;

/// Why work was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The turn is to end, the conversation stays.
    Interrupted,
    /// The agent is to end.
    Stopped,
}

/// Messages that wait for the next request, and the wishes to stop.
pub(super) struct Mailbox {
    commands: Receiver<AgentCommand>,
    stop: CancellationToken,
    waiting: VecDeque<UserMessage>,
    /// No further message will come.
    closed: bool,
    /// The supervisor has let go of its end.
    gone: bool,
}

impl Mailbox {
    pub(super) fn new(commands: Receiver<AgentCommand>, stop: CancellationToken) -> Self {
        Self {
            commands,
            stop,
            waiting: VecDeque::new(),
            closed: false,
            gone: false,
        }
    }

    /// Waits for a message to work on; false when none will come.
    pub(super) async fn wait(&mut self) -> bool {
        while self.waiting.is_empty() && !self.closed && !self.is_stopped() {
            tokio::select! {
                () = self.stop.cancelled() => {}
                command = self.commands.recv() => {
                    // Between turns there is nothing to interrupt.
                    self.accept(command);
                }
            }
        }
        !self.waiting.is_empty() && !self.is_stopped()
    }

    /// Does the work while receiving commands; gives the work up when asked to.
    pub(super) async fn watch<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Cut> {
        let mut work = pin!(work);
        while !self.is_stopped() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                command = self.commands.recv(), if !self.gone => {
                    if self.accept(command) {
                        return Err(Cut::Interrupted);
                    }
                }
                done = &mut work => return Ok(done),
            }
        }
        Err(Cut::Stopped)
    }

    /// Notes a command; true when it is an interrupt.
    fn accept(&mut self, command: Option<AgentCommand>) -> bool {
        match command {
            Some(AgentCommand::Send(message)) => self.waiting.push_back(message),
            Some(AgentCommand::Interrupt) => return true,
            // It cannot; nobody asks it to.
            Some(AgentCommand::Compact(_)) => {}
            Some(AgentCommand::Close) => self.closed = true,
            None => self.gone = true,
        }
        false
    }

    /// The waiting messages, oldest first.
    pub(super) fn take(&mut self) -> Vec<UserMessage> {
        self.waiting.drain(..).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the agent is to end now: it was asked to, or the supervisor is
    /// gone without having closed the conversation.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled() || (self.gone && !self.closed)
    }
}
