//! Requests of an agent to its host: their form, and the rules they are held to.
//!
//! Nothing here reads or writes; `run::broker` does.

mod authority;
mod reply;
mod snapshot;

pub(crate) use drawbridge_shared::protocol::AgentRequest as Request;

pub(crate) use authority::{Decision, decide};
pub(crate) use reply::{Asked, Reply};
pub(crate) use snapshot::Snapshot;
