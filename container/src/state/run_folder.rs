//! The folder of one run, and the recognition of a dead one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use drawbridge_shared::env;
use drawbridge_shared::ids::RunId;
use drawbridge_shared::ipc::write_atomic;
use serde::{Deserialize, Serialize};

use super::{Group, State, create_private, try_lock};
use crate::error::{Context, Error, Result};

/// Longest path of a unix socket on Linux, in bytes without the final zero;
/// macOS has 103.
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The parts of a run to be stopped when its launcher is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunRecord {
    /// Engine program that has the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) engine: Option<String>,
    /// Name of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) container: Option<String>,
    /// Leader of the process group that was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<ProcessRef>,
    /// Folder around the socket's, when that is not below the run's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) short_folder: Option<PathBuf>,
}

/// A process that is still the same one: process ids are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRef {
    pub(crate) pid: i32,
    /// Start time in clock ticks since boot.
    pub(crate) started: u64,
}

impl ProcessRef {
    /// A process that runs now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let started = start_time(pid)?;
        Some(Self { pid, started })
    }

    /// Whether that very process still runs.
    pub(crate) fn is_alive(self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

/// Field 22 of `/proc/PID/stat`; see proc(5). The second field is the
/// program's name in parentheses and may hold anything, so fields are counted
/// from the last parenthesis.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The folder of a run that lives. Dropping it removes it, unless something was
/// started that is not known to be gone: then the next clean_up ends that first.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    socket_folder: PathBuf,
    record: RunRecord,
    has_started: bool,
    _lock: File,
}

/// The folder of a run whose launcher is gone.
#[derive(Debug)]
pub(crate) struct DeadRun {
    pub(crate) id: RunId,
    pub(crate) record: RunRecord,
    path: PathBuf,
    _lock: File,
}

impl State {
    /// Makes the folder of a new run.
    pub(crate) fn new_run(&self, id: &RunId) -> Result<RunFolder> {
        self.make_run(id).context(|| {
            Error::not_started(format!("cannot make the folder of {id}")).hint(format!(
                "make room in {}, or name another folder in {}",
                self.root().display(),
                env::DRAWBRIDGE_STATE_DIR
            ))
        })
    }

    fn make_run(&self, id: &RunId) -> io::Result<RunFolder> {
        // It gets its name when it is locked, so that nobody who looks for
        // dead runs ever sees it unlocked.
        let unlocked = self.runs().join(format!(".new-{id}"));
        let path = self.runs().join(id.as_str());
        create_private(&unlocked)?;
        let lock = try_lock(&unlocked.join("lock"))?.ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(&unlocked, &path)?;
        let mut folder = RunFolder {
            socket_folder: path.join("socket"),
            path,
            record: RunRecord::default(),
            has_started: false,
            _lock: lock,
        };
        if folder.socket().as_os_str().len() > MAX_SOCKET_PATH {
            let short = tempfile::Builder::new().prefix("drawbridge-").tempdir()?;
            let short = short.keep();
            folder.socket_folder = short.join("socket");
            folder.record.short_folder = Some(short);
        }
        // The agent's user has to get in; on the host, the private folder
        // around it keeps everybody else out.
        fs::DirBuilder::new()
            .mode(0o711)
            .create(&folder.socket_folder)?;
        folder.save()?;
        Ok(folder)
    }

    /// Runs whose launcher is gone. Each stays locked until it is dropped, so
    /// that only one program cleans up after it.
    pub(crate) fn dead_runs(&self) -> Result<Vec<DeadRun>> {
        let failed = || Error::infrastructure(format!("cannot read {}", self.runs().display()));
        let mut dead = Vec::new();
        for entry in fs::read_dir(self.runs()).context(failed)? {
            let entry = entry.context(failed)?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse::<RunId>().ok()) else {
                remove_if_abandoned(&entry.path());
                continue;
            };
            dead.extend(DeadRun::take(id, entry.path()));
        }
        Ok(dead)
    }
}

/// Removes a folder that its maker did not come to lock within an hour.
fn remove_if_abandoned(path: &Path) {
    let age = path.metadata().and_then(|metadata| metadata.modified());
    let is_old = age.is_ok_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() > 3600));
    if is_old {
        let _ = fs::remove_dir_all(path);
    }
}

impl RunFolder {
    /// Path of the proxy's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket_folder.join("proxy.sock")
    }

    /// The folder that holds the socket and nothing else.
    pub(crate) fn socket_folder(&self) -> &Path {
        &self.socket_folder
    }

    /// The folder of the empty files that are put over secrets.
    pub(crate) fn covers(&self) -> PathBuf {
        self.path.join("covers")
    }

    /// A group that is removed with this folder.
    pub(crate) fn group(&self) -> Result<Group> {
        Group::of_one_run(self.path.join("group"))
            .context(|| Error::not_started("cannot make the folders of the run"))
    }

    /// The folder for temporary files, which is removed with this folder.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// Makes the folder for temporary files.
    pub(crate) fn make_scratch(&self) -> Result<()> {
        create_private(&self.scratch())
            .context(|| Error::not_started("cannot make the run's tmp folder"))
    }

    /// Writes down who has something of this run, before it is made.
    pub(crate) fn note_engine(&mut self, engine: &str) -> Result<()> {
        self.record.engine = Some(engine.to_owned());
        self.note()
    }

    /// Writes down what has to be stopped, before it is started.
    pub(crate) fn note_container(&mut self, engine: &str, name: &str) -> Result<()> {
        self.record.engine = Some(engine.to_owned());
        self.record.container = Some(name.to_owned());
        self.has_started = true;
        self.note()
    }

    /// Writes down the process that was started.
    pub(crate) fn note_process(&mut self, pid: i32) -> Result<()> {
        self.record.process = ProcessRef::of(pid);
        self.has_started = true;
        self.note()
    }

    /// Leaves the folder to the next clean_up, because the run is not over.
    pub(crate) const fn keep(&mut self) {
        self.has_started = true;
    }

    /// Nothing of what was started is left.
    pub(crate) const fn release(&mut self) {
        self.has_started = false;
    }

    fn note(&self) -> Result<()> {
        self.save()
            .context(|| Error::infrastructure("cannot write down what was started"))
    }

    fn save(&self) -> io::Result<()> {
        let json = serde_json::to_vec(&self.record)?;
        write_atomic(&self.path.join("run.json"), &json)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if !self.has_started {
            remove(&self.path, &self.record);
        }
    }
}

impl DeadRun {
    fn take(id: RunId, path: PathBuf) -> Option<Self> {
        // Opening does not create: the folder may be on its way out.
        let lock = File::options().write(true).open(path.join("lock"));
        let lock = match lock {
            Ok(lock) => lock.try_lock().is_ok().then_some(lock)?,
            Err(error) => {
                // For any other reason, whether it is dead is not known.
                if error.kind() == io::ErrorKind::NotFound {
                    remove_if_abandoned(&path);
                }
                return None;
            }
        };
        let record = match fs::read(path.join("run.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            // Its launcher died before it started anything.
            Err(error) if error.kind() == io::ErrorKind::NotFound => RunRecord::default(),
            Err(error) => {
                tracing::warn!("{id} is left for later: {error}");
                return None;
            }
        };
        Some(Self {
            id,
            record,
            path,
            _lock: lock,
        })
    }

    /// Removes the folder, once nothing of the run is left.
    pub(crate) fn remove(self) {
        remove(&self.path, &self.record);
    }
}

fn remove(path: &Path, record: &RunRecord) {
    let folders = [Some(path), record.short_folder.as_deref()];
    for folder in folders.into_iter().flatten() {
        if let Err(error) = remove_tree(folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", folder.display());
        }
    }
}

/// Removes a folder and all in it. What an agent made read-only, as the module
/// cache of Go is, is made writable first; the agent is gone by now.
fn remove_tree(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_folders(folder)?;
            fs::remove_dir_all(folder)
        }
        done => done,
    }
}

pub(super) fn open_folders(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}
