//! The host's snapshot of scheduled tasks.

use std::fs;
use std::io;
use std::path::Path;

use drawbridge_shared::json::from_slice_lossy;
use serde::Deserialize;

/// File below the IPC folder that the host keeps up to date.
const SNAPSHOT: &str = "current_tasks.json";
/// Characters of a prompt that are listed.
const PROMPT_CHARS: usize = 50;

/// One task of the snapshot.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Task {
    pub(super) id: String,
    #[serde(rename = "groupFolder", default)]
    pub(super) group_folder: String,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    pub(super) schedule_type: String,
    #[serde(default)]
    schedule_value: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    next_run: Option<String>,
}

impl Task {
    /// The task in one line, as NanoClaw lists it.
    pub(super) fn line(&self) -> String {
        let prompt: String = self.prompt.chars().take(PROMPT_CHARS).collect();
        format!(
            "- [{}] {prompt}... ({}: {}) - {}, next: {}",
            self.id,
            self.schedule_type,
            self.schedule_value,
            self.status,
            self.next_run.as_deref().unwrap_or("N/A")
        )
    }
}

/// Reads the snapshot; a host without one has no tasks to show.
///
/// # Errors
/// It cannot be read, or not be understood.
pub(super) fn read(ipc: &Path) -> io::Result<Vec<Task>> {
    match fs::read(ipc.join(SNAPSHOT)) {
        Ok(bytes) => Ok(from_slice_lossy(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
