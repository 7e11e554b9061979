//! The files through which a host and a running agent talk.
//!
//! Layout and formats are NanoClaw's: the host writes `input/*.json` and
//! `input/_close`. Two folders are ours: `.taken` holds what was handed to
//! the agent and is not yet confirmed, `.rejected` holds what could not be
//! read, each with the reason next to it. Nothing is deleted before it is
//! confirmed.

pub use crate::file::{replace_atomic, write_atomic};

mod answer;
mod folder;
mod message;

pub use answer::Answer;
pub use folder::{ClaimError, ClaimedFile, CloseRequest, InputFolder, Pending, Refusal};
pub use message::{Attachment, HostMessage, message_file_name};

/// Folder below the IPC folder that the host writes to.
pub const INPUT: &str = "input";
/// File in [`INPUT`] that ends the conversation. It holds the id of the run to
/// end, or nothing.
pub const CLOSE: &str = "_close";
/// Folder in [`INPUT`] for messages delivered and not yet confirmed.
pub const CLAIMED: &str = ".taken";
/// Folder in [`INPUT`] for files that cannot be read.
pub const REJECTED: &str = ".rejected";
/// File below the IPC folder that a runner writes as soon as its agent has the
/// first message, and again with each activity.
pub const HEARTBEAT: &str = "heartbeat.json";
/// Largest message file, in bytes.
pub const MAX_MESSAGE_BYTES: u64 = 16 * 1024 * 1024;
/// Folder below the IPC folder for messages of the agent.
pub const MESSAGES: &str = "messages";
/// Folder below the IPC folder for what the agent wants scheduled or registered.
pub const TASKS: &str = "tasks";
/// Folder below the IPC folder in which a host answers requests; see [`Answer`].
pub const ANSWERS: &str = "answers";
