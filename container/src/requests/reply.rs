//! Replies to the requests of an agent.

use std::path::PathBuf;

use drawbridge_shared::ids::GroupName;
use serde::{Deserialize, Serialize};

use super::Request;
use super::snapshot::Snapshot;

/// An answer of the embedding program or of a handler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reply {
    /// Whether the request is accepted.
    pub(crate) ok: bool,
    /// The answer to a question, or why the request is refused.
    #[serde(default)]
    pub(crate) text: Option<String>,
    /// The host's groups and tasks, if they have changed.
    #[serde(default)]
    pub(crate) snapshot: Option<Snapshot>,
}

impl Reply {
    pub(crate) fn accepted(text: Option<&str>) -> Self {
        Self {
            ok: true,
            text: text.map(str::to_owned),
            snapshot: None,
        }
    }

    pub(crate) fn refused(reason: &str) -> Self {
        Self {
            ok: false,
            text: Some(reason.to_owned()),
            snapshot: None,
        }
    }
}

/// A request that was allowed, as the event stream and handlers see it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    /// The id that an answer refers to.
    pub(crate) id: String,
    /// The group that asks: the only sender to be trusted.
    pub(crate) group: GroupName,
    pub(crate) request: Request,
    /// A copy of the file that the request names, on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
}
