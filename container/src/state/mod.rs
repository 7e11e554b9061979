//! The launcher's state folder.
//!
//! ```text
//! install-id                     names this installation in container labels
//! groups/NAME/{workspace,home,ipc,session.json,lock}
//! runs/RUN_ID/{lock,run.json,socket,group}
//! serve/{lock,queue.db,serve.sock,token}
//! ```
//!
//! A run holds the lock of its folder for as long as its launcher lives; a
//! folder whose lock can be taken belongs to a dead one.

mod folder;
mod group;
mod run_folder;

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use drawbridge_shared::env;
use drawbridge_shared::ids::{RunId, hex};
use drawbridge_shared::ipc::write_atomic;

use crate::error::{Context, Error, Result};
use crate::spec::InstallId;

pub(crate) use folder::{Folder, is_request_name};
pub(crate) use group::{Group, Outbox};
pub(crate) use run_folder::{DeadRun, ProcessRef, RunFolder};

/// The state folder.
#[derive(Clone, Debug)]
pub(crate) struct State {
    root: PathBuf,
    install: InstallId,
}

impl State {
    /// Opens the state folder of this user, and makes it if it is not there.
    pub(crate) fn open() -> Result<Self> {
        let root = root(|name| std::env::var_os(name).filter(|value| !value.is_empty()))?;
        Self::at(root)
    }

    /// Whether a path is in the state folder of this user, where agents write.
    pub(crate) fn holds(path: &Path) -> Result<bool> {
        let root = root(|name| std::env::var_os(name).filter(|value| !value.is_empty()))?;
        let (root, path) = (fs::canonicalize(root), fs::canonicalize(path));
        // A folder that is not there holds nothing.
        Ok(root.is_ok_and(|root| path.is_ok_and(|path| path.starts_with(root))))
    }

    /// Opens the state folder at a given place.
    pub(crate) fn at(root: PathBuf) -> Result<Self> {
        let failed = || {
            let root = root.display();
            Error::not_started(format!("cannot use the state folder {root}")).hint(format!(
                "make it writable, or name another one in {}",
                env::DRAWBRIDGE_STATE_DIR
            ))
        };
        for folder in ["groups", "runs"] {
            create_private(&root.join(folder)).context(failed)?;
        }
        let root = fs::canonicalize(&root).context(failed)?;
        let install = install_id(&root.join("install-id")).context(failed)?;
        Ok(Self { root, install })
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The name of this installation.
    pub(crate) const fn install(&self) -> &InstallId {
        &self.install
    }

    /// Whether a run has a folder, alive or dead.
    pub(crate) fn knows(&self, run: &RunId) -> bool {
        self.run_path(run).exists()
    }

    fn run_path(&self, run: &RunId) -> PathBuf {
        self.runs().join(run.as_str())
    }

    /// Where `serve` keeps its queue and waits for its callers.
    pub(crate) fn serve_folder(&self) -> PathBuf {
        self.root.join("serve")
    }

    /// Takes the place of the one `serve` of this state folder; `None` when
    /// there is one already.
    pub(crate) fn lock_serve(&self) -> io::Result<Option<File>> {
        let folder = self.serve_folder();
        create_private(&folder)?;
        try_lock(&folder.join("lock"))
    }

    fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }
}

fn root(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<PathBuf> {
    if let Some(root) = variable(env::DRAWBRIDGE_STATE_DIR) {
        return std::path::absolute(root)
            .context(|| Error::usage(format!("{} is not a path", env::DRAWBRIDGE_STATE_DIR)));
    }
    if let Some(folder) = variable("XDG_STATE_HOME").map(PathBuf::from) {
        // The XDG specification says that relative paths are to be ignored.
        if folder.is_absolute() {
            return Ok(folder.join("drawbridge"));
        }
    }
    let home = variable("HOME").map(PathBuf::from).ok_or_else(|| {
        Error::not_started("there is no place for the state folder: HOME is not set")
            .hint(format!("set {}", env::DRAWBRIDGE_STATE_DIR))
    })?;
    Ok(home.join(".local/state/drawbridge"))
}

/// Reads the install id; the first program to ask makes it.
fn install_id(path: &Path) -> io::Result<InstallId> {
    match fs::read_to_string(path) {
        Ok(text) => text.trim_end().parse().map_err(|rule| {
            let path = path.display();
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{path} does not hold {rule}"),
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0_u8; 8];
            getrandom::fill(&mut bytes).map_err(io::Error::other)?;
            let id = hex(&bytes);
            let candidate = path.with_extension(&id);
            write_atomic(&candidate, format!("{id}\n").as_bytes())?;
            // Of two programs that start at once, the first link stays.
            let linked = fs::hard_link(&candidate, path);
            fs::remove_file(&candidate)?;
            match linked {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => install_id(path),
            }
        }
        Err(error) => Err(error),
    }
}

/// Makes a folder that only its owner can enter, with its parents.
fn create_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Longest time that a lock stays taken after its holder is gone: a process that is
/// being started holds the locks of the one that starts it, even of one that has
/// been killed meanwhile, until it executes its program.
const LOCK_PATIENCE: Duration = Duration::from_millis(300);

/// Takes a lock file, or says that somebody else has it.
#[expect(
    clippy::disallowed_methods,
    reason = "nobody tells when a lock is let go"
)]
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() >= end => return Ok(None),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
