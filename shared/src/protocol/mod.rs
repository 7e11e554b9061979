//! The two documents of a run: what the host writes to the runner's standard
//! input, and the records the runner writes back.
//!
//! Field names and meanings are NanoClaw's, so that either side can be replaced
//! by its counterpart there. Everything of ours is optional: on input it is the
//! `drawbridge` object, on output the fields after `error`.

mod input;
mod record;

pub use input::{
    AgentKind, AgentOptions, AuthMode, MAX_INPUT_BYTES, MountedFile, ProxyAccess, ProxyEndpoint,
    RunInput, RunOptions, RunPaths, TranscriptLimits,
};
pub use record::{ErrorKind, Progress, RecordDetails, RecordKind, RecordStatus, RunRecord, Usage};
