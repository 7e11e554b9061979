//! Notices that a file has changed: by file events, and by looking at it now
//! and then where events do not arrive (network file systems, link targets).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// Interval at which the file is inspected without an event.
const POLL: Duration = Duration::from_secs(5);

/// Delay between an event and the reading of the file, so that a writer who truncates
/// first has written.
const SETTLE: Duration = Duration::from_millis(50);

/// Watches one file.
#[derive(Debug)]
pub(super) struct FileWatch {
    path: PathBuf,
    seen: Option<Stamp>,
    events: Arc<Notify>,
    /// An event has come and its change has not been reported.
    is_pending: bool,
    _watcher: Option<RecommendedWatcher>,
}

/// Attributes by which a changed file is recognised.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    length: u64,
    #[cfg(unix)]
    inode: u64,
}

impl FileWatch {
    /// Watches `path`, which need not exist.
    pub(super) fn new(path: &Path) -> Self {
        let events = Arc::new(Notify::new());
        // Polling alone is enough; a machine out of watches is not an error.
        let watcher = watch_folder(path, Arc::clone(&events))
            .inspect_err(|error| {
                tracing::debug!(path = %path.display(), %error, "no file events; polling");
            })
            .ok();
        Self {
            path: path.to_owned(),
            seen: Stamp::of(path),
            events,
            is_pending: false,
            _watcher: watcher,
        }
    }

    /// Waits until the file may have changed. A wait that is given up loses no
    /// event.
    pub(super) async fn changed(&mut self) {
        while !self.is_pending {
            tokio::select! {
                () = self.events.notified() => self.is_pending = true,
                () = tokio::time::sleep(POLL) => {
                    self.is_pending = Stamp::of(&self.path) != self.seen;
                }
            }
        }
        tokio::time::sleep(SETTLE).await;
        self.is_pending = false;
        self.seen = Stamp::of(&self.path);
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok()?,
            length: metadata.len(),
            #[cfg(unix)]
            inode: metadata.ino(),
        })
    }
}

/// The folder is watched, not the file: files are replaced by renaming.
fn watch_folder(path: &Path, events: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let name: Option<OsString> = path.file_name().map(ToOwned::to_owned);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let concerns_file = event.is_ok_and(|event| {
            is_change(event.kind) && event.paths.iter().any(|p| p.file_name() == name.as_deref())
        });
        if concerns_file {
            events.notify_one();
        }
    })?;
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Our own reading of the file is an event too.
const fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => matches!(access, AccessKind::Close(AccessMode::Write)),
        _ => true,
    }
}
