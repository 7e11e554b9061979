//! The answers to commands, as they are on the wire.

use serde::{Deserialize, Serialize};

use super::store::{DeadLetter, Summary};
use super::submission::{Stage, SubmissionId};
use crate::error::{Context, Error, Result};

/// The answer to a command.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Submitted(Submitted),
    Accepted(Accepted),
    Closed(Closed),
    List(Vec<Summary>),
    Submission(Summary),
    DeadLetter(DeadLetter),
    Purged(Purged),
    Health(Health),
}

/// The answer to `submit` and `send`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Submitted {
    pub(crate) id: SubmissionId,
    /// Whether the submission is a new one.
    pub(crate) new: bool,
}

/// The answer to `answer`, `interrupt` and `retry`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Accepted {
    pub(crate) id: SubmissionId,
}

/// The answer to `close`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub(crate) id: SubmissionId,
    /// The stage in which the command met the submission.
    pub(crate) was: Stage,
}

/// The answer to `purge`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Purged {
    /// Number of dead letters that were deleted.
    pub(crate) purged: usize,
}

/// The answer to `health`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Health {
    pub(crate) ok: bool,
    /// The reason why the store cannot be written at present.
    #[serde(rename = "trouble")]
    pub(crate) last_error: Option<String>,
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    pub(crate) draining: bool,
    pub(crate) version: String,
}

/// The answer to a command that is refused or fails.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) hint: Option<String>,
    /// The exit code of a command line that gets this error.
    #[serde(default)]
    pub(crate) code: Option<u8>,
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        Self {
            error: error.one_line(),
            hint: error.hint_text().map(str::to_owned),
            code: Some(error.exit().code()),
        }
    }
}

/// An answer as one line of JSON, its keys sorted.
///
/// # Errors
/// The answer has no form in JSON.
pub(crate) fn to_line(answer: &impl Serialize) -> Result<String> {
    serde_json::to_value(answer)
        .map(|value| value.to_string())
        .context(|| Error::infrastructure("an answer cannot be written"))
}
