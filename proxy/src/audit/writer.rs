//! The thread that owns the audit file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::chain::{self, Anchor};
use super::{Event, Fsync};

/// Records that are written at once when they have piled up.
const BATCH_RECORDS: usize = 256;
/// Enough for the last record of a file.
const LAST_BYTES: u64 = 1024 * 1024;

/// What the writer is asked to do.
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
    #[error(
        "the audit file {} is in use by another process\nhint: give each proxy a file of its own",
        .0.display()
    )]
    InUse(PathBuf),
    /// Its last line is not a record, or its anchor is not one.
    #[error(
        "the audit file {} was changed: {what}\nhint: keep it and {}.anchor as evidence, and move both away to start anew",
        path.display(), path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// The file, and the place in the chain where it continues.
pub(super) struct Writer {
    path: PathBuf,
    fsync: Fsync,
    file: File,
    last: Anchor,
    /// The unfinished record that was found at the end.
    removed_bytes: Option<u64>,
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
        let mut file = open_file(&path).map_err(io_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path)),
            Err(TryLockError::Error(source)) => return Err(io_error(source)),
        }
        let anchor = read_anchor(&anchor_path(&path)).map_err(io_error)?;
        let removed_bytes = remove_unfinished(&mut file).map_err(io_error)?;
        let last = match last_line(&mut file).map_err(io_error)? {
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
        Ok(Self {
            path,
            fsync,
            file,
            last,
            removed_bytes,
            unsynced: None,
        })
    }

    /// Writes the first record and goes on in a thread of its own.
    pub(super) fn start(mut self, messages: mpsc::Receiver<Message>) -> Result<(), OpenError> {
        let path = self.path.clone();
        let io_error = |source| OpenError::Io { path, source };
        let opened = Event::Opened {
            version: env!("CARGO_PKG_VERSION"),
            removed_bytes: self.removed_bytes,
        };
        let start = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()?;
            self.write(&[(SystemTime::now(), opened)])?;
            self.sync()?;
            let thread = std::thread::Builder::new().name("audit".to_owned());
            thread.spawn(move || runtime.block_on(self.run(messages)))
        };
        start().map(|_| ()).map_err(io_error)
    }

    /// Writes what comes until the file fails or is closed. Returning drops the
    /// receiver, and from then on nobody gets a permit.
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let path = self.path.clone();
        tracing::info!(path = %path.display(), anchor = %self.last, "audit file opened");
        match self.write_all(&mut messages).await {
            Ok(closed) => {
                tracing::info!(path = %path.display(), anchor = %self.last, "audit file closed");
                // First, so that nobody gets a permit for a record after the end.
                drop(messages);
                // The next writer is to find the file free. Closing it alone is
                // not enough: a child being started holds it for a moment.
                let _ = self.file.unlock();
                // Nobody may be waiting any more.
                let _ = closed.map(|closed| closed.send(()));
            }
            Err(error) => {
                tracing::error!(
                    path = %path.display(), anchor = %self.last, %error,
                    "the audit file cannot be written, so no request is served any more"
                );
            }
        }
    }

    async fn write_all(
        &mut self,
        messages: &mut mpsc::Receiver<Message>,
    ) -> io::Result<Option<oneshot::Sender<()>>> {
        let mut batch = Vec::with_capacity(BATCH_RECORDS);
        loop {
            let count = tokio::select! {
                count = messages.recv_many(&mut batch, BATCH_RECORDS) => count,
                () = sync_due(self.fsync, self.unsynced) => {
                    self.sync()?;
                    continue;
                }
            };
            let mut closed = None;
            let mut events = Vec::with_capacity(count + 1);
            for message in batch.drain(..) {
                match message {
                    Message::Event { time, event } => events.push((time, event)),
                    Message::Close(done) => closed = Some(done),
                }
            }
            // All senders are gone, or one of them said so.
            let is_last = count == 0 || closed.is_some();
            if is_last {
                events.push((SystemTime::now(), Event::Closed));
            }
            self.write(&events)?;
            if is_last || self.fsync == Fsync::Always {
                self.sync()?;
            }
            if is_last {
                return Ok(closed);
            }
        }
    }

    fn write(&mut self, events: &[(SystemTime, Event)]) -> io::Result<()> {
        self.follow_rotation()?;
        let mut lines = Vec::new();
        for (time, event) in events {
            self.last = chain::append(&mut lines, self.last, *time, event)?;
        }
        self.file.write_all(&lines)?;
        self.unsynced.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Opens the file anew when another one, or none, is at its path.
    fn follow_rotation(&mut self) -> io::Result<()> {
        let here = self.file.metadata()?;
        let is_same = match std::fs::metadata(&self.path) {
            Ok(there) => (here.dev(), here.ino()) == (there.dev(), there.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !is_same {
            self.file.sync_data()?;
            let file = open_file(&self.path)?;
            file.try_lock().map_err(io::Error::from)?;
            self.file = file;
            tracing::info!(path = %self.path.display(), anchor = %self.last, "audit file rotated");
        }
        Ok(())
    }

    /// Forces the records onto the disk, then says in the anchor that they are.
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        let path = anchor_path(&self.path);
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let mut anchor = tempfile::NamedTempFile::new_in(folder.unwrap_or_else(|| Path::new(".")))?;
        writeln!(anchor, "{}", self.last)?;
        anchor.persist(path).map_err(|error| error.error)?;
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

fn open_file(path: &Path) -> io::Result<File> {
    // Paths of requests are nobody else's business.
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// The anchor lies beside the file.
fn anchor_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".anchor");
    PathBuf::from(name)
}

fn read_anchor(path: &Path) -> io::Result<Option<Anchor>> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let anchor = text.parse();
            anchor
                .map(Some)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A crash may leave the beginning of a record, which nobody can have read.
fn remove_unfinished(file: &mut File) -> io::Result<Option<u64>> {
    let (start, tail) = read_tail(file)?;
    if tail.is_empty() || tail.ends_with(b"\n") {
        return Ok(None);
    }
    let whole = tail
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    file.set_len(start + whole as u64)?;
    Ok(Some((tail.len() - whole) as u64))
}

fn last_line(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let (_, tail) = read_tail(file)?;
    let lines = tail.strip_suffix(b"\n");
    Ok(lines
        .and_then(|lines| lines.rsplit(|byte| *byte == b'\n').next())
        .map(<[u8]>::to_vec))
}

/// The last bytes of a file, and where they begin.
fn read_tail(file: &mut File) -> io::Result<(u64, Vec<u8>)> {
    let start = file.metadata()?.len().saturating_sub(LAST_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    Read::take(file, LAST_BYTES).read_to_end(&mut tail)?;
    Ok((start, tail))
}
