//! The heartbeat file, from which the host sees that the run is alive and what
//! it does.
//!
//! Its time is the last activity, its content says which tool is in flight and
//! for how long that may take.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drawbridge_shared::file::{Access, Durability, Replacement};
use drawbridge_shared::ipc::HEARTBEAT;
use serde::Serialize;
use tokio::time::Instant;

/// Shortest interval between two writes.
const INTERVAL: Duration = Duration::from_secs(1);

/// A tool that the agent is using.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolInFlight {
    pub(crate) name: String,
    pub(crate) since: Instant,
    /// The tool's own limit.
    pub(crate) limit: Option<Duration>,
}

/// The heartbeat file of a run.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    path: PathBuf,
    /// When it may be written again.
    next: Instant,
    /// Something happened since it was written.
    due: bool,
    has_failed: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Content<'a> {
    working: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<Tool<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tool<'a> {
    name: &'a str,
    running_ms: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_ms: Option<u128>,
}

impl Heartbeat {
    pub(crate) fn new(ipc: &Path, now: Instant) -> Self {
        Self {
            path: ipc.join(HEARTBEAT),
            next: now,
            due: true,
            has_failed: false,
        }
    }

    /// The agent was active.
    pub(crate) fn beat(&mut self) {
        self.due = true;
    }

    /// When to write it; `None` as long as nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.then_some(self.next)
    }

    /// Writes it. A failure is reported once: a run goes on without it.
    pub(crate) fn write(&mut self, now: Instant, working: bool, tool: Option<&ToolInFlight>) {
        self.due = false;
        self.next = now + INTERVAL;
        let content = Content {
            working,
            tool: tool.map(|tool| Tool {
                name: &tool.name,
                running_ms: now.saturating_duration_since(tool.since).as_millis(),
                limit_ms: tool.limit.map(|limit| limit.as_millis()),
            }),
        };
        if let Err(error) = self.replace(&content)
            && !std::mem::replace(&mut self.has_failed, true)
        {
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }

    /// Unlike a message it need not survive a crash, so it is not synced.
    fn replace(&self, content: &Content<'_>) -> io::Result<()> {
        let content = serde_json::to_vec(content)?;
        Replacement::prepare(&self.path, Access::Private)?.write(&content, Durability::Unsynced)
    }
}
