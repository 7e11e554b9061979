//! The documents of a run: the host's on the runner's standard input, the
//! runner's records, and the agent's requests to the host.
//!
//! Field names and meanings are NanoClaw's, so that either side can be replaced
//! by its counterpart there. Everything of ours is optional: on input it is the
//! `drawbridge` object, on output the fields after `error`.

mod agent_args;
mod input;
mod record;
mod request;

pub use agent_args::{AgentArgsError, check_agent_args};
pub use input::{
    AgentKind, AgentOptions, AuthMode, MAX_INPUT_BYTES, MountedFile, ProxyAccess, ProxyEndpoint,
    RunInput, RunOptions, RunPaths, TranscriptLimits,
};
pub use record::{ErrorKind, Progress, RecordDetails, RecordKind, RecordStatus, RunRecord, Usage};
pub use request::{AgentRequest, Claims, ContextMode};
