//! Claude Code over its stream-json control protocol.

use super::{AgentLink, AgentSpec, Failure};

/// Drives the agent until its input is closed or it is told to stop.
pub(super) async fn drive(_spec: AgentSpec, _link: AgentLink) -> Result<(), Failure> {
    Err(Failure::crash("not there yet"))
}
