//! A mount, as users see it.

use std::path::PathBuf;

use serde::Serialize;

/// A mount in the `start` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MountSummary {
    /// On this machine.
    pub(crate) source: PathBuf,
    /// Where the agent finds it.
    pub(crate) target: PathBuf,
    pub(crate) writable: bool,
}
