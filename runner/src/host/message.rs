//! A user's message on its way from the host to the agent.

use uuid::Uuid;

/// Names one user message between the supervisor and an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MessageId(pub(crate) Uuid);

impl MessageId {
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

/// A user's message, on its way to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserMessage {
    pub(crate) id: MessageId,
    pub(crate) text: String,
}
