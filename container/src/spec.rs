//! What a container run is made of.
//!
//! A [`RunSpec`] becomes an argument list that every process on the host can
//! read, so a secret cannot be written down in it: there is no free environment
//! and no free text. The session token travels in the run input on standard
//! input instead.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use drawbridge_shared::ids::RunId;
use serde::Serialize;

use crate::state::InstallId;

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
    /// Who the agent is inside.
    pub(crate) user: User,
    /// What it can reach.
    pub(crate) network: Network,
    /// Host folders it sees.
    pub(crate) mounts: Vec<Mount>,
    /// What it may use up.
    pub(crate) limits: Limits,
    /// Its `/tmp`.
    pub(crate) scratch: Scratch,
    /// The host's time zone.
    pub(crate) time_zone: Option<TimeZone>,
}

/// Numeric user and group inside the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// User id; never 0.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
}

impl User {
    /// Who runs the launcher.
    #[must_use]
    pub(crate) fn of_launcher() -> Self {
        Self {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        }
    }

    /// Who the agent is in a container: the caller, so that files in mounted
    /// folders belong to them, but never root.
    #[must_use]
    pub(crate) fn of_agent() -> Self {
        match Self::of_launcher() {
            Self { uid: 0, .. } => Self {
                uid: 1000,
                gid: 1000,
            },
            caller => caller,
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// What a container can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// Nothing but the socket mounted at [`SOCKET_FOLDER`].
    Sealed,
    /// The engine's bridge, with the internet behind it.
    Bridge {
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

/// What a run may use up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Memory and swap together.
    pub(crate) memory: ByteSize,
    /// Processor time, in thousandths of one processor.
    pub(crate) cpus: Cpus,
    /// Processes and threads.
    pub(crate) pids: NonZeroU32,
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

/// A reference to an image, such as `drawbridge/claude:0.1.0`.
///
/// The rule keeps to the characters of the distribution specification's
/// reference grammar, and it cannot start with a dash, so it cannot be taken
/// for a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRef(String);

impl FromStr for ImageRef {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_valid = (1..=255).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-/:@+".contains(&b));
        if is_valid {
            Ok(Self(text.to_owned()))
        } else {
            Err("an image reference such as \"drawbridge/claude:0.1.0\"")
        }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number of bytes, written as `512m` or `4g`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(u64);

impl ByteSize {
    /// A size in mebibytes.
    #[must_use]
    #[cfg(test)]
    pub(crate) const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The size in bytes.
    #[must_use]
    pub(crate) const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "a size of at least 6m, such as \"512m\" or \"4g\"";
        let (digits, shift) = match text.as_bytes().last() {
            Some(b'k') => (&text[..text.len() - 1], 10),
            Some(b'm') => (&text[..text.len() - 1], 20),
            Some(b'g') => (&text[..text.len() - 1], 30),
            _ => return Err(RULE),
        };
        let number: u64 = digits.parse().map_err(|_| RULE)?;
        // Docker refuses to start a container with less than 6 MiB.
        number
            .checked_mul(1 << shift)
            .filter(|bytes| (6 << 20..1 << 50).contains(bytes))
            .map(Self)
            .ok_or(RULE)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes.is_multiple_of(1 << 30) => write!(f, "{}g", bytes >> 30),
            bytes if bytes.is_multiple_of(1 << 20) => write!(f, "{}m", bytes >> 20),
            bytes => write!(f, "{}k", bytes >> 10),
        }
    }
}

/// Processor time, kept in thousandths of one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpus {
    thousandths: u32,
}

impl Cpus {
    /// Whole processors.
    #[must_use]
    pub(crate) const fn whole(count: u32) -> Self {
        Self {
            thousandths: count.saturating_mul(1000),
        }
    }

    /// In thousandths of one processor.
    pub(crate) const fn thousandths(self) -> u32 {
        self.thousandths
    }

    /// No more than this machine has; engines refuse to promise more.
    #[must_use]
    pub(crate) fn at_most_of_this_machine(self) -> Self {
        let here = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let here = Self::whole(u32::try_from(here).unwrap_or(u32::MAX));
        Self {
            thousandths: self.thousandths.min(here.thousandths),
        }
    }
}

impl FromStr for Cpus {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "a number of processors from 0.01 to 1024, such as \"1.5\"";
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) || fraction.len() > 3 || whole.len() > 4 {
            return Err(RULE);
        }
        let whole: u32 = whole.parse().map_err(|_| RULE)?;
        let fraction: u32 = format!("{fraction:0<3}").parse().map_err(|_| RULE)?;
        let thousandths = whole * 1000 + fraction;
        if (10..=1_024_000).contains(&thousandths) {
            Ok(Self { thousandths })
        } else {
            Err(RULE)
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.thousandths / 1000, self.thousandths % 1000);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{fraction:03}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// Name of a time zone, such as `Europe/Berlin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimeZone(String);

impl FromStr for TimeZone {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_valid = (1..=64).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphabetic()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_+-/".contains(&b));
        if is_valid {
            Ok(Self(text.to_owned()))
        } else {
            Err("a time zone name such as \"Europe/Berlin\"")
        }
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TimeZone {
    /// The host's zone, from `TZ` or the link `/etc/localtime`.
    #[must_use]
    pub(crate) fn of_host() -> Option<Self> {
        if let Ok(zone) = std::env::var("TZ") {
            return zone.trim_start_matches(':').parse().ok();
        }
        let link = std::fs::read_link("/etc/localtime").ok()?;
        let (_, zone) = link.to_str()?.split_once("zoneinfo/")?;
        zone.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_processors_are_read_and_shown_alike() {
        for text in ["6m", "512m", "4g", "7000k"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        for text in ["", "0", "4", "5m", "-1g", "4G", "1.5g", "99999999999999g"] {
            text.parse::<ByteSize>().unwrap_err();
        }
        for text in ["2", "1.5", "0.25", "0.125"] {
            assert_eq!(text.parse::<Cpus>().unwrap().to_string(), text);
        }
        for text in ["", "0", "0.001", ".5", "1.", "-1", "2e3", "9999"] {
            text.parse::<Cpus>().unwrap_err();
        }
    }

    #[test]
    fn an_image_reference_cannot_be_a_flag() {
        for bad in ["", "--privileged", "a b", "a;b", "a\n"] {
            bad.parse::<ImageRef>().unwrap_err();
        }
        for good in ["drawbridge/claude:0.1.0", "reg.io:5000/a/b@sha256:00ff"] {
            good.parse::<ImageRef>().unwrap();
        }
    }
}
