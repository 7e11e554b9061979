//! The right to use a login's refresh token, shared with the other programs
//! that use the same file.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::format::Format;

/// Longest wait for another program's renewal; its own deadlines are shorter.
const WAIT: Duration = Duration::from_secs(30);

/// Interval at which a lock is tried again: neither kind reports that it is free.
const RETRY: Duration = Duration::from_millis(100);

/// Age at which Claude Code takes a lock folder for left behind. We hold one
/// for less than half of it.
const STALE: Duration = Duration::from_secs(60);

/// The lock; dropping it gives it free.
#[derive(Debug)]
pub(super) struct LoginLock {
    _folders: Vec<LockFolder>,
    _file: Option<LockFile>,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    #[error("another program has held the lock {} for {} s", .0.display(), WAIT.as_secs())]
    Held(PathBuf),
    #[error("the lock {} cannot be made", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

impl LoginLock {
    /// Waits, bounded, for the right to renew the login in `path`.
    ///
    /// Claude Code's is two folders: `.oauth_refresh.lock` beside the file, and
    /// for its older versions one named as its configuration folder with
    /// `.lock` added, which may fail where that place is not writable. All
    /// others are a lock (flock) on a file named as the login with `.lock`
    /// added, as the login file itself is replaced at each renewal.
    pub(super) async fn acquire(format: Format, path: &Path) -> Result<Self, LockError> {
        if format != Format::Claude {
            let file = wait_for(&with_suffix(path), try_file).await?;
            return Ok(Self {
                _folders: Vec::new(),
                _file: Some(file),
            });
        }
        let home = path.parent().unwrap_or_else(|| Path::new("/"));
        let current = wait_for(&home.join(".oauth_refresh.lock"), try_folder).await?;
        let mut folders = vec![current];
        match wait_for(&with_suffix(home), try_folder).await {
            Ok(older) => folders.push(older),
            Err(held @ LockError::Held(_)) => return Err(held),
            Err(LockError::Io(..)) => {}
        }
        Ok(Self {
            _folders: folders,
            _file: None,
        })
    }
}

async fn wait_for<L>(
    path: &Path,
    attempt: impl Fn(&Path) -> io::Result<Option<L>>,
) -> Result<L, LockError> {
    let attempts = async {
        loop {
            match attempt(path) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => tokio::time::sleep(RETRY).await,
                Err(error) => return Err(LockError::Io(path.to_owned(), error)),
            }
        }
    };
    tokio::time::timeout(WAIT, attempts)
        .await
        .unwrap_or_else(|_elapsed| Err(LockError::Held(path.to_owned())))
}

/// A file that is locked.
#[derive(Debug)]
struct LockFile(File);

impl Drop for LockFile {
    fn drop(&mut self) {
        // Closing it alone is not enough: a child being started holds it for a
        // moment. That comes next, should this fail.
        let _ = self.0.unlock();
    }
}

fn try_file(path: &Path) -> io::Result<Option<LockFile>> {
    let file = File::options().create(true).append(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(LockFile(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A folder that exists while the lock is held.
#[derive(Debug)]
struct LockFolder {
    path: PathBuf,
    made: SystemTime,
}

fn try_folder(path: &Path) -> io::Result<Option<LockFolder>> {
    match fs::create_dir(path) {
        Ok(()) => {
            let made = fs::metadata(path)?.modified()?;
            Ok(Some(LockFolder {
                path: path.to_owned(),
                made,
            }))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_if_stale(path);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Its holder touches the folder while it lives, so an old one has none. Should
/// this not succeed, the folder stays and the wait for it ends at its deadline.
fn remove_if_stale(path: &Path) {
    let touched = fs::metadata(path).and_then(|metadata| metadata.modified());
    let age = touched.ok().and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age > STALE) {
        let _ = fs::remove_dir(path);
    }
}

impl Drop for LockFolder {
    fn drop(&mut self) {
        // After a suspension it may be another's, who found ours stale.
        let is_ours = fs::metadata(&self.path)
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| modified == self.made);
        if is_ours && let Err(error) = fs::remove_dir(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a lock folder");
        }
    }
}

/// The path with `.lock` added to its name, links followed.
fn with_suffix(path: &Path) -> PathBuf {
    let mut path = fs::canonicalize(path)
        .unwrap_or_else(|_| path.to_owned())
        .into_os_string();
    path.push(".lock");
    PathBuf::from(path)
}
