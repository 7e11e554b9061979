//! What a conversation decides, and why.

use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::protocol::RunRecord;

use crate::agent::AgentCommand;
use crate::host::message::MessageId;

/// What the supervisor has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Start the agent; with a session, go on with that conversation.
    Start(Option<AgentSessionId>),
    /// Tell the running agent.
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

/// Why the agent was told to stop.
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

/// What the next process of the agent goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The same conversation, with other settings.
    SameConversation,
    /// A new conversation.
    Clear,
}
