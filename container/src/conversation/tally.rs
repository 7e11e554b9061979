//! How a conversation went.

/// What the agent has said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Records that answer a message, failures included.
    pub(crate) answers: usize,
    pub(crate) failures: usize,
    /// Failures of an agent that did not start.
    pub(crate) start_failures: usize,
    /// Follow-ups that could not be handed over.
    pub(crate) lost: usize,
    /// Whether the runner said anything at all.
    pub(crate) has_started: bool,
    /// Whether the runner was about to start the agent.
    pub(crate) has_begun: bool,
}

impl Tally {
    /// Whether the agent had a message, so that it may have done something. Only
    /// records count: what is in its folders the agent could change.
    pub(crate) const fn reached_agent(&self) -> bool {
        self.answers > self.start_failures || (self.has_begun && self.start_failures == 0)
    }
}
