//! Waits for a change in a folder.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// File events of one folder, with a poll for file systems that send none.
#[derive(Debug)]
pub struct FolderWatch {
    changed: Arc<Notify>,
    poll: Interval,
    /// File events come as long as it lives.
    _watcher: Option<RecommendedWatcher>,
}

impl FolderWatch {
    /// Watches a folder; without file events only the poll is left.
    #[must_use]
    pub fn new(folder: &Path, poll: Duration) -> Self {
        let changed = Arc::new(Notify::new());
        let watcher = watch(folder, Arc::clone(&changed));
        let mut poll = interval(poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            _watcher: watcher
                .inspect_err(|error| tracing::warn!("no file events, polling only: {error}"))
                .ok(),
            changed,
            poll,
        }
    }

    /// Waits until the folder may have changed since the last call.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = self.changed.notified() => {}
            _ = self.poll.tick() => {}
        }
    }
}

fn watch(folder: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error may hide an event, so it wakes the reader too.
        if event.map_or(true, |event| puts_a_file_in_place(event.kind)) {
            changed.notify_one();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// A file that was created may be empty still; one that was renamed into the
/// folder or closed after writing is whole.
fn puts_a_file_in_place(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Any
            | EventKind::Other
    )
}
