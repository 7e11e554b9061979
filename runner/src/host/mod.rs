//! The host's side of a run: the run's document, the messages for the agent, the
//! records, and the files by which the host watches a run.

pub(crate) mod archive;
pub(crate) mod heartbeat;
pub(crate) mod inbox;
pub(crate) mod input;
pub(crate) mod message;
pub(crate) mod mounts;
pub(crate) mod output;
pub(crate) mod relay;
pub(crate) mod watch;
