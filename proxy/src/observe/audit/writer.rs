//! The thread that owns the audit file.

use std::borrow::Cow;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::chain::{self, Anchor};
use super::file;
use super::{Event, QUEUE_RECORDS};
use crate::policy::Fsync;

/// Records that are written at once when they have piled up.
const BATCH_RECORDS: usize = 256;

/// Pause between two tries of a file that cannot be written.
const RETRY: Duration = Duration::from_secs(1);

/// A command to the writer.
#[derive(Debug)]
pub(super) enum Message {
    Event { time: SystemTime, event: Event },
    Close(oneshot::Sender<()>),
}

/// Why an audit file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be opened, read or written.
    #[error("cannot use the audit file {}", path.display())]
    Io {
        /// The file, or its anchor.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process writes to it.
    #[error("the audit file {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// Its last line is not a record, or its anchor is not one.
    #[error("the audit file {} was changed: {what}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The fault.
        what: &'static str,
    },
}

impl OpenError {
    /// The fix, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Io { .. } => None,
            Self::InUse(_) => Some("give each proxy a file of its own".into()),
            Self::Changed { path, .. } => {
                let path = path.display();
                let hint = format!(
                    "keep it and {path}.anchor as evidence, and move both away to start anew"
                );
                Some(hint.into())
            }
        }
    }
}

/// Why records are not on the disk.
enum Failure {
    /// It may pass, as a full disk does. Nothing of the chain is lost.
    Passing(io::Error),
    /// The disk did not keep what was written before. What of it is lost, no
    /// second try would tell, so whoever starts the proxy again has to look.
    Final(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Passing(error)
    }
}

impl Failure {
    fn into_error(self) -> io::Error {
        match self {
            Self::Passing(error) | Self::Final(error) => error,
        }
    }
}

/// A time in which the file cannot be written and no request is served.
struct Interruption {
    since: SystemTime,
    next_try: Instant,
    /// The record of it is written; what is missing is the anchor.
    is_recorded: bool,
}

/// The file, and the place in the chain where it continues.
pub(super) struct Writer {
    path: PathBuf,
    fsync: Fsync,
    file: File,
    last: Anchor,
    /// Events to write next, of requests that were served.
    pending: Vec<(SystemTime, Event)>,
    /// Where an unfinished record begins that could not be removed yet.
    torn: Option<u64>,
    interruption: Option<Interruption>,
    /// Read by those who want a permit.
    is_interrupted: Arc<AtomicBool>,
    /// Since when something is written that is not synced.
    unsynced: Option<Instant>,
}

impl Writer {
    pub(super) fn open(path: PathBuf, fsync: Fsync) -> Result<Self, OpenError> {
        let io_error = |source| OpenError::Io {
            path: path.clone(),
            source,
        };
        let changed = |what| OpenError::Changed {
            path: path.clone(),
            what,
        };
        let mut file = file::open(&path).map_err(io_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path)),
            Err(TryLockError::Error(source)) => return Err(io_error(source)),
        }
        let anchor = file::read_anchor(&file::anchor_path(&path)).map_err(io_error)?;
        let removed_bytes = file::remove_unfinished(&mut file).map_err(io_error)?;
        let last = match file::last_line(&mut file).map_err(io_error)? {
            // After a rotation the new file continues the old one.
            None => anchor.unwrap_or(Anchor::START),
            Some(line) => {
                let link = chain::read(&line).filter(|link| link.is_genuine);
                link.ok_or_else(|| changed("its last line is not a record"))?
                    .place
            }
        };
        let is_cut_off = anchor.is_some_and(|anchor| {
            anchor.seq > last.seq || (anchor.seq == last.seq && anchor != last)
        });
        if is_cut_off {
            return Err(changed(
                "it does not contain the record that its anchor names",
            ));
        }
        let opened = Event::Opened {
            version: env!("CARGO_PKG_VERSION"),
            removed_bytes,
        };
        Ok(Self {
            path,
            fsync,
            file,
            last,
            pending: vec![(SystemTime::now(), opened)],
            torn: None,
            interruption: None,
            is_interrupted: Arc::default(),
            unsynced: None,
        })
    }

    /// Is true while the file cannot be written.
    pub(super) const fn is_interrupted(&self) -> &Arc<AtomicBool> {
        &self.is_interrupted
    }

    /// Writes the first record and goes on in a thread of its own.
    pub(super) fn start(mut self, messages: mpsc::Receiver<Message>) -> Result<(), OpenError> {
        let path = self.path.clone();
        let io_error = |source| OpenError::Io { path, source };
        let start = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()?;
            self.write_down(true).map_err(Failure::into_error)?;
            let thread = std::thread::Builder::new().name("audit".to_owned());
            thread.spawn(move || runtime.block_on(self.run(messages)))
        };
        start().map(|_| ()).map_err(io_error)
    }

    /// Writes what comes until the file is closed, or fails for good. Returning
    /// drops the receiver, and from then on nobody gets a permit.
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let path = self.path.clone();
        tracing::info!(path = %path.display(), anchor = %self.last, "audit file opened");
        let mut closed = None;
        let written = self.write_all(&mut messages, &mut closed).await;
        match &written {
            Ok(()) => {
                tracing::info!(path = %path.display(), anchor = %self.last, "audit file closed");
            }
            Err(error) => tracing::error!(
                path = %path.display(), anchor = %self.last, %error,
                "the audit file cannot be written, so no request is served until a restart"
            ),
        }
        // First, so that nobody gets a permit for a record after the end.
        drop(messages);
        // The next writer is to find the file free. Closing it alone is not
        // enough: a child being started holds it for a moment.
        let _ = self.file.unlock();
        if let (Ok(()), Some(closed)) = (written, closed) {
            // Nobody may be waiting any more.
            let _ = closed.send(());
        }
    }

    async fn write_all(
        &mut self,
        messages: &mut mpsc::Receiver<Message>,
        closed: &mut Option<oneshot::Sender<()>>,
    ) -> io::Result<()> {
        let mut batch = Vec::with_capacity(BATCH_RECORDS);
        loop {
            // Requests in flight end while the file cannot be written; what is
            // kept of them is bounded like the queue.
            let is_room = self.pending.len() < QUEUE_RECORDS;
            let came = tokio::select! {
                count = messages.recv_many(&mut batch, BATCH_RECORDS), if is_room => Some(count),
                () = self.due() => None,
            };
            for message in batch.drain(..) {
                match message {
                    Message::Event { time, event } => self.pending.push((time, event)),
                    Message::Close(done) => *closed = Some(done),
                }
            }
            // All senders are gone, or one of them said so.
            let is_last = came == Some(0) || closed.is_some();
            if is_last {
                self.pending.push((SystemTime::now(), Event::Closed));
            } else if came.is_some() && self.interruption.is_some() {
                // The timer tries again, and not each record that comes.
                continue;
            }
            let is_synced = is_last || came.is_none() || self.fsync == Fsync::Always;
            match self.write_down(is_synced) {
                Ok(()) => self.resumed(),
                Err(Failure::Passing(error)) if !is_last => self.interrupted(&error),
                Err(failure) => return Err(failure.into_error()),
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Completes when there is something to do although no record comes.
    async fn due(&self) {
        match &self.interruption {
            Some(interruption) => tokio::time::sleep_until(interruption.next_try).await,
            None => sync_due(self.fsync, self.unsynced).await,
        }
    }

    /// From now on nobody gets a permit.
    fn interrupted(&mut self, error: &io::Error) {
        let next_try = Instant::now() + RETRY;
        if let Some(interruption) = &mut self.interruption {
            interruption.next_try = next_try;
            return;
        }
        self.is_interrupted.store(true, Ordering::Release);
        self.interruption = Some(Interruption {
            since: SystemTime::now(),
            next_try,
            is_recorded: false,
        });
        tracing::error!(
            path = %self.path.display(), anchor = %self.last, %error,
            "the audit file cannot be written, so no request is served until it can"
        );
    }

    /// All is written and anchored; whoever asks gets a permit again.
    fn resumed(&mut self) {
        if self.interruption.take().is_some() {
            self.is_interrupted.store(false, Ordering::Release);
            tracing::info!(
                path = %self.path.display(), anchor = %self.last,
                "the audit file is written again, and requests are served"
            );
        }
    }

    /// Writes what is pending, and forces it onto the disk if that is asked for.
    fn write_down(&mut self, is_synced: bool) -> Result<(), Failure> {
        let interruption = self.interruption.as_mut().filter(|i| !i.is_recorded);
        let interrupted = interruption.map(|interruption| {
            let seconds = interruption.since.elapsed().unwrap_or_default().as_secs();
            (SystemTime::now(), Event::Interrupted { seconds })
        });
        if !self.pending.is_empty() || interrupted.is_some() {
            self.write(interrupted.as_ref())?;
        }
        if is_synced { self.sync() } else { Ok(()) }
    }

    /// Appends what is pending, or nothing.
    fn write(&mut self, interrupted: Option<&(SystemTime, Event)>) -> Result<(), Failure> {
        self.remove_torn()?;
        self.follow_rotation()?;
        let (mut lines, mut last) = (Vec::new(), self.last);
        for (time, event) in self.pending.iter().chain(interrupted) {
            let place = chain::append(&mut lines, last, *time, event);
            last = place.map_err(|error| Failure::Final(error.into()))?;
        }
        let start = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(&lines) {
            self.torn = Some(start);
            // A full disk lets go of bytes; if not, it is tried again.
            let _ = self.remove_torn();
            return Err(Failure::Passing(error));
        }
        self.last = last;
        self.pending.clear();
        if let Some(interruption) = &mut self.interruption {
            interruption.is_recorded = true;
        }
        self.unsynced.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Removes what a write that failed has left: the chain continues where the
    /// last whole record ends.
    fn remove_torn(&mut self) -> io::Result<()> {
        if let Some(start) = self.torn {
            if self.file.metadata()?.len() > start {
                self.file.set_len(start)?;
            }
            self.torn = None;
        }
        Ok(())
    }

    /// Opens the file anew when another one, or none, is at its path.
    fn follow_rotation(&mut self) -> Result<(), Failure> {
        let here = self.file.metadata()?;
        let is_same = match std::fs::metadata(&self.path) {
            Ok(there) => (here.dev(), here.ino()) == (there.dev(), there.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error.into()),
        };
        if !is_same {
            self.file.sync_data().map_err(Failure::Final)?;
            let file = file::open(&self.path)?;
            file.try_lock().map_err(io::Error::from)?;
            self.file = file;
            tracing::info!(path = %self.path.display(), anchor = %self.last, "audit file rotated");
        }
        Ok(())
    }

    /// Forces the records onto the disk, then says in the anchor that they are.
    fn sync(&mut self) -> Result<(), Failure> {
        self.file.sync_data().map_err(Failure::Final)?;
        file::write_anchor(&file::anchor_path(&self.path), self.last)?;
        self.unsynced = None;
        Ok(())
    }
}

/// Completes when written records have waited long enough.
async fn sync_due(fsync: Fsync, unsynced: Option<Instant>) {
    match (fsync, unsynced) {
        (Fsync::Interval(interval), Some(since)) => {
            let interval = interval.max(Duration::from_millis(1));
            tokio::time::sleep_until(since + interval).await;
        }
        _ => std::future::pending().await,
    }
}
