//! Abilities of each agent's protocol. A missing ability is declared here and
//! reported, not faked.

use drawbridge_shared::protocol::AgentKind;

/// An agent's abilities beyond answering messages one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a table of answers to independent questions"
)]
pub struct Abilities {
    /// A message that comes while the model answers joins the running turn.
    /// Without it, the message begins the next one.
    pub joins_turns: bool,
    /// The conversation can be summarised on request.
    pub compacts: bool,
    /// The transcript is archived before it is summarised.
    pub archives: bool,
    /// Answers report their tokens.
    pub tells_usage: bool,
    /// Answers report their cost.
    pub tells_cost: bool,
}

impl Abilities {
    /// The abilities of an agent of this kind.
    #[must_use]
    pub const fn of(kind: AgentKind) -> Self {
        let nothing = Self {
            joins_turns: false,
            compacts: false,
            archives: false,
            tells_usage: false,
            tells_cost: false,
        };
        match kind {
            AgentKind::Claude => Self {
                compacts: true,
                archives: true,
                tells_usage: true,
                tells_cost: true,
                ..nothing
            },
            AgentKind::Codex => Self {
                joins_turns: true,
                compacts: true,
                tells_usage: true,
                ..nothing
            },
            AgentKind::Builtin | AgentKind::Gemini | AgentKind::Opencode => Self {
                tells_usage: true,
                ..nothing
            },
            // Other agents of the protocol may report their tokens too; this is
            // what can be relied on.
            AgentKind::Acp | AgentKind::Command => nothing,
        }
    }
}
