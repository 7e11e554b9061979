//! Commands to a run while it goes on.

use drawbridge_shared::ipc::HostMessage;

use crate::requests::{Reply, Snapshot};

/// A command to a running conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunControl {
    /// A further message.
    Message(HostMessage),
    /// A further message is made ready in a file of the group's outbox, from where
    /// [`Self::HandOver`] moves it to the agent in one step.
    Prepare { file: String, message: HostMessage },
    /// The agent gets what was made ready.
    HandOver { file: String },
    /// No more messages will come; answers may.
    Close,
    /// An answer to a request of the agent.
    Answer {
        /// The request.
        id: String,
        reply: Reply,
    },
    /// The host's groups and tasks, as they are now.
    Snapshot(Snapshot),
    /// Something that cannot be understood; it is reported and skipped.
    Invalid(String),
}
