//! The specification of a container run.
//!
//! A [`RunSpec`] becomes an argument list that every process on the host can
//! read, so a secret cannot be written down in it: there is no free environment
//! and no free text. The session token travels in the run input on standard
//! input instead.

mod amount;
mod mount;
mod name;
mod user;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Component, Path, PathBuf};

use drawbridge_shared::ids::RunId;
use serde::Serialize;

pub(crate) use amount::{ByteSize, Cpus};
pub(crate) use mount::MountSummary;
pub(crate) use name::{ImageRef, InstallId, TimeZone};
pub(crate) use user::{User, UserChoice};

/// The agent's working directory in a container.
pub(crate) const WORKSPACE: &str = "/workspace/group";
/// The IPC folder in a container.
pub(crate) const IPC: &str = "/workspace/ipc";
/// The agent's home in a container.
pub(crate) const HOME: &str = "/home/agent";
/// Where the folder with the proxy's socket is mounted in a container.
pub(crate) const SOCKET_FOLDER: &str = "/run/drawbridge";

/// One container run, whatever engine starts it.
#[derive(Clone, Debug)]
pub(crate) struct RunSpec {
    /// The run.
    pub(crate) run: RunId,
    /// The installation it belongs to; a sibling's containers are left alone.
    pub(crate) install: InstallId,
    /// Name of the container, by which it is stopped.
    pub(crate) name: String,
    /// Image to start.
    pub(crate) image: ImageRef,
    /// The agent's user.
    pub(crate) user: User,
    /// Its network.
    pub(crate) network: Network,
    /// Host folders it sees.
    pub(crate) mounts: Vec<Mount>,
    /// Its resource limits.
    pub(crate) limits: Limits,
    /// Its `/tmp`.
    pub(crate) scratch: Scratch,
    /// The host's time zone.
    pub(crate) time_zone: Option<TimeZone>,
}

/// The network of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// Nothing but the socket mounted at [`SOCKET_FOLDER`].
    Sealed,
    /// A bridge of its own, with the internet behind it.
    Bridge {
        /// Name of the run's network.
        name: String,
        /// Address of the host for its alias; absent where the engine
        /// resolves the name itself, as Docker Desktop does.
        host: Option<IpAddr>,
    },
}

/// A host folder or file inside the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    source: PathBuf,
    target: PathBuf,
    /// Whether the agent may write to it.
    pub(crate) access: Access,
}

/// A path that an engine's mount option cannot hold.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be mounted: paths are absolute, without \"..\", comma, colon, quote or line end", .0.display())]
pub(crate) struct UnmountablePath(PathBuf);

impl Mount {
    /// Mounts `source` of the host at `target` in the container.
    ///
    /// # Errors
    /// A path is relative, or holds a character that means something in a mount
    /// option and so could add an option of its own.
    pub(crate) fn new(
        source: impl Into<PathBuf>,
        target: impl Into<PathBuf>,
        access: Access,
    ) -> Result<Self, UnmountablePath> {
        let (source, target) = (source.into(), target.into());
        for path in [&source, &target] {
            let bytes = path.as_os_str().as_encoded_bytes();
            let is_plain = !bytes.iter().any(|byte| b",:\"\n\r".contains(byte));
            let goes_up = path.components().any(|part| part == Component::ParentDir);
            if !path.is_absolute() || !is_plain || goes_up {
                return Err(UnmountablePath(path.clone()));
            }
        }
        Ok(Self {
            source,
            target,
            access,
        })
    }

    /// Absolute path on the host.
    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    /// Absolute path in the container.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }
}

/// Whether a mounted folder can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read only.
    Read,
    /// Read and write.
    Write,
}

/// Resource limits of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Memory and swap together.
    pub(crate) memory: ByteSize,
    /// Processor time, in thousandths of one processor.
    pub(crate) cpus: Cpus,
    /// Processes and threads.
    pub(crate) pids: NonZeroU32,
    /// Files that one process may have open.
    pub(crate) open_files: u64,
    /// Processes of its user on the whole machine, where an engine has to be
    /// told; the limit of the container is `pids`.
    pub(crate) processes: u64,
    /// The largest file it may write.
    pub(crate) file_size: Option<ByteSize>,
}

/// The writable `/tmp` of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scratch {
    /// Its size; it counts against the memory limit.
    pub(crate) size: ByteSize,
    /// Whether programs in it can be started; many builds need that.
    pub(crate) exec: bool,
}

/// A protection that not every engine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protection {
    /// A filter of system calls.
    Seccomp,
    /// Set-uid programs gain nothing.
    NoNewPrivileges,
    /// The memory limit.
    Memory,
    /// The limit of processor time.
    Cpus,
    /// The limit of processes.
    Pids,
}

impl Protection {
    /// All of them, with the names that settings use.
    pub(crate) const NAMES: [(&'static str, Self); 5] = [
        ("seccomp", Self::Seccomp),
        ("no-new-privileges", Self::NoNewPrivileges),
        ("memory", Self::Memory),
        ("cpus", Self::Cpus),
        ("pids", Self::Pids),
    ];
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::NAMES
            .iter()
            .find(|(_, protection)| protection == self);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}
