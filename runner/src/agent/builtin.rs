//! The small agent inside the runner itself.

use super::{AgentLink, AgentSpec, Failure};

/// Drives the agent until its input is closed or it is told to stop.
pub(super) async fn drive(_spec: AgentSpec, _link: AgentLink) -> Result<(), Failure> {
    Err(Failure::crash("the builtin agent is not there yet"))
}
