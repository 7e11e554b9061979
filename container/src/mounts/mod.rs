//! Folders and files of this machine that an agent may see in addition to its own.
//!
//! Nothing is mounted that the user's allowlist does not name. What is mounted
//! is looked through for secrets, which are covered by something empty, and the
//! runner makes sure, before it starts an agent, that the mounts lead to what
//! was checked here.

mod allowlist;
mod links;
mod names;
mod request;
mod walk;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use drawbridge_shared::protocol::MountedFile;
use rustix::fs::FileType;

use crate::error::{Context, Error, Result};
use crate::spec::Access;

pub(crate) use allowlist::{Allowlist, place};
pub(crate) use request::MountRequest;
pub(crate) use walk::Masked;

use links::names_on_the_way;
use names::Names;
use request::{NAME_RULE, Place, expand_home, is_name};

/// Where a container has the extra folders.
pub(crate) const EXTRA: &str = "/workspace/extra";

/// Places of a system that no agent gets: what runs the machine is there, and
/// the sockets by which it is run.
const SYSTEM: [&str; 12] = [
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/var/run",
    "/etc",
    "/boot",
    "/root",
    "/var/lib/docker",
    "/var/lib/containers",
    "/var/lib/containerd",
    "/private/var/run",
];

/// First parts of paths that an image has itself, so that nothing of the host
/// can be put at the same path.
const OF_THE_IMAGE: [&str; 10] = [
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "usr",
    "tmp",
    "workspace",
    "opt",
];

/// The identity of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileId {
    fn of(handle: &OwnedFd) -> io::Result<Self> {
        let metadata = File::from(handle.try_clone()?).metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// The file that has this name now.
    pub(crate) fn of_path(path: &Path) -> io::Result<Self> {
        let metadata = path.symlink_metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// The expectation that the runner checks at `path`.
    pub(crate) fn expected_at(self, path: PathBuf) -> MountedFile {
        MountedFile {
            path,
            device: self.device,
            inode: self.inode,
        }
    }
}

/// A mount that has passed all checks.
#[derive(Debug)]
pub(crate) struct CheckedMount {
    /// On this machine, links resolved.
    pub(crate) source: PathBuf,
    /// The file that was checked under that name; held open, so that its inode number
    /// cannot be given to another file.
    handle: OwnedFd,
    pub(crate) id: FileId,
    /// In the container.
    pub(crate) target: PathBuf,
    pub(crate) access: Access,
    /// Whether it is a folder.
    pub(crate) is_folder: bool,
    /// Secrets below it, which have to be masked.
    pub(crate) hidden: Vec<Masked>,
}

/// The rules for mounts.
#[derive(Clone, Debug)]
pub(crate) struct Rules<'a> {
    /// The user's home, for paths that begin with `~`.
    pub(crate) home: Option<&'a Path>,
    /// Where the allowlist is, when a home is known.
    pub(crate) allowlist: Option<&'a Path>,
    /// Folders of ours; neither they nor what holds them is mounted.
    pub(crate) private: &'a [PathBuf],
    /// Where this program looks for its configuration and for `.env`, whether
    /// they are there or not.
    pub(crate) configuration: &'a [PathBuf],
    /// Whether the run's group is the main one.
    pub(crate) is_main: bool,
}

impl Rules<'_> {
    /// Checks all that was asked for, or refuses all.
    pub(crate) fn check(&self, requests: &[MountRequest]) -> Result<Vec<CheckedMount>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let (mut mounts, allowlist) = self.admit(requests)?;
        for mount in mounts.iter_mut().filter(|mount| mount.is_folder) {
            let hidden = walk::secrets_below(&mount.handle, allowlist.names(), true);
            let unreadable =
                || Error::usage(format!("{} cannot be mounted", mount.source.display()));
            mount.hidden = hidden.context(unreadable)?;
        }
        Ok(mounts)
    }

    /// Refuses what may not be mounted, without a look at what is below it.
    pub(crate) fn require(&self, requests: &[MountRequest]) -> Result<()> {
        if requests.is_empty() {
            return Ok(());
        }
        self.admit(requests).map(drop)
    }

    fn admit(&self, requests: &[MountRequest]) -> Result<(Vec<CheckedMount>, Allowlist)> {
        let path = self.allowlist.ok_or_else(|| {
            Error::usage("nothing may be mounted: HOME is not set, so there is no allowlist")
        })?;
        let allowlist = Allowlist::read(path, self.home)?;
        let mut mounts: Vec<CheckedMount> = Vec::new();
        for request in requests {
            let mount = self.check_one(request, &allowlist)?;
            let clash = |other: &&CheckedMount| other.target == mount.target;
            if let Some(other) = mounts.iter().find(clash) {
                let (one, two) = (other.source.display(), mount.source.display());
                let target = mount.target.display();
                let what = format!("{one} and {two} would both be mounted at {target}");
                return Err(Error::usage(what).hint("give one of them another NAME"));
            }
            mounts.push(mount);
        }
        Ok((mounts, allowlist))
    }

    fn check_one(&self, request: &MountRequest, allowlist: &Allowlist) -> Result<CheckedMount> {
        let shown = request.path.display();
        let refused = |why: String| Error::usage(format!("{shown} is not mounted")).caused_by(why);
        let absolute = expand_home(&request.path, self.home)
            .and_then(|path| std::path::absolute(path).ok())
            .ok_or_else(|| refused("it has no absolute path".to_owned()))?;
        let unreadable = || Error::usage(format!("{shown} cannot be mounted"));
        let source = std::fs::canonicalize(&absolute).context(unreadable)?;
        // As it was written and as it is: a link may be named like a secret too.
        for path in [&absolute, &source] {
            if let Some(name) = allowlist.names().blocked(path) {
                return Err(refused(format!("{name:?} is known to hold secrets")));
            }
        }
        self.refuse_private(&source, allowlist).map_err(refused)?;
        if !allowlist.allows(&source) {
            let list = allowlist.path().display();
            return Err(
                refused(format!("no allowed root holds {}", source.display()))
                    .hint(format!("add one to allowedRoots in {list}")),
            );
        }
        if request.access == Access::Write {
            let why = allowlist.refuses_writing(&source, self.is_main);
            let why = why.map(str::to_owned);
            if let Some(why) = why.or_else(|| self.refuses_writing(&source)) {
                return Err(refused(format!("it may not be written to: {why}")));
            }
        }
        let handle = walk::open_plain(&source).context(unreadable)?;
        let is_folder = match walk::kind(&handle).context(unreadable)? {
            FileType::Directory => true,
            FileType::RegularFile => false,
            _ => {
                return Err(refused(
                    "it is neither a folder nor a regular file".to_owned(),
                ));
            }
        };
        Ok(CheckedMount {
            id: FileId::of(&handle).context(unreadable)?,
            target: target(&request.place, &source).map_err(refused)?,
            access: request.access,
            handle,
            source,
            is_folder,
            hidden: Vec::new(),
        })
    }

    /// An agent that can write where we read our configuration decides what the
    /// next command does on this machine.
    fn refuses_writing(&self, source: &Path) -> Option<String> {
        let files = self.configuration.iter().map(PathBuf::as_path);
        let decides = |file: &Path| {
            let names = names_on_the_way(file);
            names.iter().any(|name| name.starts_with(source))
        };
        let mut files = files.chain(self.allowlist);
        let file = files.find(|file| decides(file))?.display();
        Some(format!("the next command would read it as {file}"))
    }

    /// Keeps the system's places and ours out of every container.
    fn refuse_private(&self, source: &Path, allowlist: &Allowlist) -> Result<(), String> {
        if source.parent().is_none() {
            return Err("it is the whole machine".to_owned());
        }
        let system = SYSTEM.iter().map(Path::new);
        if let Some(place) = system.into_iter().find(|place| source.starts_with(place)) {
            return Err(format!("{} belongs to the system", place.display()));
        }
        let ours = self.private.iter().map(PathBuf::as_path);
        let ours = ours.chain(allowlist.path().parent());
        for place in ours.chain(SYSTEM.map(Path::new)) {
            if place.starts_with(source) || source.starts_with(place) {
                let place = place.display();
                return Err(format!("{place} is in it, which no agent may see"));
            }
        }
        Ok(())
    }
}

/// Finds the secrets in a folder that is the agent's own.
pub(crate) fn secrets_in(folder: &Path) -> Result<Vec<Masked>> {
    let failed = || Error::not_started(format!("{} cannot be mounted", folder.display()));
    let folder = std::fs::canonicalize(folder).context(failed)?;
    let handle = walk::open_plain(&folder).context(failed)?;
    walk::secrets_below(&handle, &Names::default(), false).map_err(|error| {
        failed()
            .caused_by(error)
            .hint("--mask-secrets false does not look")
    })
}

fn target(place: &Place, source: &Path) -> Result<PathBuf, String> {
    match place {
        Place::Extra(Some(name)) => Ok(Path::new(EXTRA).join(name)),
        Place::Extra(None) => {
            let name = source.file_name().and_then(|name| name.to_str());
            let name = name.filter(|name| is_name(name));
            let name =
                name.ok_or_else(|| format!("its own name is not valid for a mount: {NAME_RULE}"))?;
            Ok(Path::new(EXTRA).join(name))
        }
        Place::SamePath => {
            let first = source.components().find_map(|part| match part {
                Component::Normal(name) => name.to_str(),
                _ => None,
            });
            if first.is_none_or(|first| OF_THE_IMAGE.contains(&first))
                || source.starts_with(crate::spec::HOME)
                || Path::new(crate::spec::HOME).starts_with(source)
            {
                return Err("the image has files of its own at that path".to_owned());
            }
            Ok(source.to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
