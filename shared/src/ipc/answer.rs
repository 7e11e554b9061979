//! A host's answer to an agent's request.

use serde::{Deserialize, Serialize};

/// One file in `answers/`, under the name of the request's file.
///
/// A host that answers makes the folder before the run starts; without the
/// folder nobody waits for answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether the request was accepted.
    pub ok: bool,
    /// The answer to a question, or why the request was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}
