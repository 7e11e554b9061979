//! Not there yet.

use drawbridge_shared::protocol::ErrorKind;

use super::{AgentLink, AgentSpec, Failure};

/// Drives the agent until its input is closed or it is told to stop.
pub(super) async fn drive(_spec: AgentSpec, _link: AgentLink) -> Result<(), Failure> {
    Err(Failure::new(
        ErrorKind::StartUp,
        "this agent is not there yet",
    ))
}
