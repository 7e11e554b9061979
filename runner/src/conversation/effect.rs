//! Decisions of a conversation, and their reasons.

use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::protocol::RunRecord;

use crate::agent::AgentCommand;
use crate::host::message::MessageId;

/// An action of the supervisor; actions are carried out in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Start the agent; with a session, go on with that conversation.
    Start(Option<AgentSessionId>),
    /// Send a command to the running agent.
    Command(AgentCommand),
    /// Stop the running agent: interrupt, end of input, TERM, KILL.
    Stop,
    /// The agent has the message; its file may go.
    Confirm(MessageId),
    /// Write a record.
    Write(Box<RunRecord>),
    /// Exit.
    End(Exit),
}

/// The reason to stop the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A signal ends the run.
    Signal,
    /// The host wants no more of it.
    Cancelled,
    /// The agent does not work any more; the record is written.
    Stuck,
}

impl Stop {
    /// The exit code of a run that ends so.
    pub(crate) const fn exit(self) -> Exit {
        match self {
            Self::Signal => Exit::Interrupted,
            Self::Cancelled => Exit::Success,
            Self::Stuck => Exit::AgentFailed,
        }
    }
}

/// The conversation that the agent's next process continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The current conversation, with other settings.
    SameConversation,
    /// A new conversation.
    Clear,
}
