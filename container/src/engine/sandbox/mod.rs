//! The sandbox around an agent on this machine.
//!
//! It is no container. Landlock keeps a process and its children from writing
//! outside a few folders, from opening TCP connections to anything but the
//! proxy, and from reading files that are known to hold secrets. The rest of
//! the machine stays readable, and UDP and unix sockets stay reachable.

#[cfg(all(target_os = "linux", not(drawbridge_portable)))]
mod landlock;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::num::NonZeroU16;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use clap::Parser;
use drawbridge_shared::exit::Exit;

use crate::error::{Error, Result};
use crate::mounts::FileId;
use crate::process::Argv;
use crate::terminal::{output, usage};

/// The hidden subcommand that puts itself into the sandbox and then becomes
/// another program.
pub(crate) const SUBCOMMAND: &str = "host-sandbox";

/// Files and folders of a home that are known to hold secrets.
const SECRETS: [&str; 17] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".env",
    ".config/gcloud",
    ".config/gh",
    ".claude/.credentials.json",
    ".codex/auth.json",
    ".local/share/keyrings",
    ".password-store",
];

/// Permissions of an agent on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "host-sandbox", no_binary_name = true)]
pub(crate) struct Sandbox {
    /// Folders it may change.
    #[arg(long)]
    write: Vec<PathBuf>,
    /// More folders it may change, if they are still those that were checked.
    #[arg(long)]
    write_checked: Vec<CheckedPath>,
    /// Files and folders it may not read, unless it may change them.
    #[arg(long)]
    hide: Vec<PathBuf>,
    /// The TCP port it may connect to.
    #[arg(long)]
    port: NonZeroU16,
}

/// A folder, and which one it was when it was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CheckedPath {
    path: PathBuf,
    id: FileId,
}

impl fmt::Display for CheckedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileId { device, inode } = self.id;
        write!(f, "{device}:{inode}:{}", self.path.display())
    }
}

impl FromStr for CheckedPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "DEVICE:INODE:PATH";
        let mut parts = text.splitn(3, ':');
        let mut next = || parts.next().ok_or(RULE);
        let (device, inode, path) = (next()?, next()?, next()?);
        Ok(Self {
            path: path.into(),
            id: FileId {
                device: device.parse().map_err(|_| RULE)?,
                inode: inode.parse().map_err(|_| RULE)?,
            },
        })
    }
}

#[derive(Debug, Parser)]
#[command(name = "host-sandbox", no_binary_name = true)]
struct CommandLine {
    #[command(flatten)]
    sandbox: Sandbox,
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

impl Sandbox {
    /// Lets an agent change `write` and connect to `port`, and hides `state`
    /// and the user's secrets from it.
    pub(crate) fn new(write: Vec<PathBuf>, state: &Path, port: NonZeroU16) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let here = std::env::current_dir().ok();
        let mut hide = vec![state.to_owned()];
        hide.extend(here.map(|folder| folder.join(".env")));
        hide.extend(
            home.into_iter()
                .flat_map(|home| SECRETS.map(|name| home.join(name))),
        );
        Self {
            write,
            write_checked: Vec::new(),
            hide,
            port,
        }
    }

    /// Lets the agent change folders of the user's as well, and hides more.
    pub(crate) fn with(
        mut self,
        write: impl IntoIterator<Item = (PathBuf, FileId)>,
        hide: impl IntoIterator<Item = PathBuf>,
    ) -> Self {
        let write = write.into_iter();
        let write = write.map(|(path, id)| CheckedPath { path, id });
        self.write_checked.extend(write);
        self.hide.extend(hide);
        self
    }

    /// A program within the sandbox.
    pub(crate) fn around(&self, inner: Argv) -> Argv {
        let mut argv = Argv::this_program([SUBCOMMAND]);
        // One word each, so that no path can be taken for a flag.
        let mut add = |flag: &str, value: &OsStr| {
            let mut word = OsString::from(flag);
            word.push("=");
            word.push(value);
            argv.args.push(word);
        };
        for path in &self.write {
            add("--write", path.as_os_str());
        }
        for path in &self.write_checked {
            add("--write-checked", path.to_string().as_ref());
        }
        for path in &self.hide {
            add("--hide", path.as_os_str());
        }
        add("--port", self.port.to_string().as_ref());
        argv.args.push("--".into());
        argv.args.push(inner.program);
        argv.args.extend(inner.args);
        argv
    }
}

/// Whether this system can enforce the sandbox, and if not, why.
pub(crate) fn require() -> Result<()> {
    support().map_err(|cause| {
        Error::not_started("this system cannot sandbox an agent on the host")
            .caused_by(cause)
            .hint("choose a container runtime, or --no-sandbox, which protects nothing")
    })
}

#[cfg(all(target_os = "linux", not(drawbridge_portable)))]
use self::landlock::{enforce, support};

#[cfg(any(not(target_os = "linux"), drawbridge_portable))]
fn support() -> std::result::Result<(), &'static str> {
    Err("Landlock is a part of Linux")
}

#[cfg(any(not(target_os = "linux"), drawbridge_portable))]
fn enforce(_: &Sandbox) -> std::result::Result<(), &'static str> {
    support()
}

/// Enters the sandbox and becomes the program; returns only if it cannot.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let line = match CommandLine::try_parse_from(args) {
        Ok(line) => line,
        Err(error) => return usage::report(&error),
    };
    let error = match enforce(&line.sandbox) {
        Ok(()) => {
            let mut command = Command::new(&line.program[0]);
            let cause = command.args(&line.program[1..]).exec();
            let program = line.program[0].display();
            Error::not_started(format!("cannot start {program}")).caused_by(cause)
        }
        Err(cause) => Error::not_started("cannot enter the sandbox").caused_by(cause),
    };
    output::error(&error);
    Exit::NotStarted
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
