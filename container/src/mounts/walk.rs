//! The look below a mounted folder: bounded, through open handles, and without
//! following a single link.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};

use super::names::Names;

/// Most entries that are looked at below one folder.
const MAX_ENTRIES: usize = 500_000;
/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 128;
/// Most things that are hidden below one folder: each is a mount of its own.
const MAX_SECRETS: usize = 100;

/// Looking at a file needs no right to read it where the system can do that.
#[cfg(all(target_os = "linux", not(drawbridge_portable)))]
const LOOK: OFlags = OFlags::PATH;
#[cfg(any(not(target_os = "linux"), drawbridge_portable))]
const LOOK: OFlags = OFlags::NONBLOCK;

/// Something that an agent must not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Masked {
    /// Where it is, below the mounted folder.
    pub(crate) path: PathBuf,
    /// Whether it is a folder.
    pub(crate) is_folder: bool,
}

/// Why a folder cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalkError {
    #[error("it holds more than {MAX_ENTRIES} files, too many to look for secrets")]
    TooMany,
    #[error("it is more than {MAX_DEPTH} folders deep, too deep to look for secrets")]
    TooDeep,
    #[error("it holds more than {MAX_SECRETS} secret files")]
    TooManySecrets,
    #[error("cannot look into {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

/// Opens a path of which no part is a link, so that what was checked under its
/// name is what is opened.
pub(super) fn open_plain(path: &Path) -> io::Result<OwnedFd> {
    let folder_flags = LOOK | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut handle = openat(CWD, "/", folder_flags, Mode::empty())?;
    let names: Vec<_> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    for (index, name) in names.iter().enumerate() {
        let is_last = index + 1 == names.len();
        let flags = if is_last {
            LOOK | OFlags::NOFOLLOW | OFlags::CLOEXEC
        } else {
            folder_flags
        };
        handle = openat(&handle, *name, flags, Mode::empty())?;
    }
    Ok(handle)
}

/// The type of an open file.
pub(super) fn kind(handle: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(handle)?.st_mode))
}

/// Finds what is to be hidden below an open folder, sockets included when
/// `and_sockets` is set: whoever listens on one is outside the sandbox.
pub(super) fn secrets_below(
    folder: &OwnedFd,
    names: &Names,
    and_sockets: bool,
) -> Result<Vec<Masked>, WalkError> {
    let mut walk = Walk {
        names,
        and_sockets,
        left: MAX_ENTRIES,
        found: Vec::new(),
    };
    walk.enter(folder, OsStr::new("."), &PathBuf::new(), 0)?;
    Ok(walk.found)
}

struct Walk<'a> {
    names: &'a Names,
    and_sockets: bool,
    left: usize,
    found: Vec<Masked>,
}

impl Walk<'_> {
    fn enter(
        &mut self,
        parent: impl AsFd,
        name: &OsStr,
        path: &Path,
        depth: usize,
    ) -> Result<(), WalkError> {
        if depth > MAX_DEPTH {
            return Err(WalkError::TooDeep);
        }
        let failed = |error: rustix::io::Errno| WalkError::Io(path.to_owned(), error.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match openat(parent, name, flags, Mode::empty()) {
            Ok(folder) => folder,
            // Its owner, as whom the agent may run, can open it for itself.
            Err(rustix::io::Errno::ACCESS) if depth > 0 => return self.hide(path, true),
            Err(error) => return Err(failed(error)),
        };
        for entry in Dir::read_from(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            self.left = self.left.checked_sub(1).ok_or(WalkError::TooMany)?;
            let path = path.join(name);
            let kind = match entry.file_type() {
                FileType::Unknown => statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map(|stat| FileType::from_raw_mode(stat.st_mode))
                    .map_err(failed)?,
                kind => kind,
            };
            match kind {
                FileType::Directory if self.names.hides_folder(&path) => self.hide(&path, true)?,
                FileType::Directory => self.enter(&folder, name, &path, depth + 1)?,
                // What a link leads to is looked up inside, where it is hidden.
                FileType::Symlink => {}
                FileType::Socket if self.and_sockets => self.hide(&path, false)?,
                _ if self.names.hides_file(&path) => self.hide(&path, false)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn hide(&mut self, path: &Path, is_folder: bool) -> Result<(), WalkError> {
        if self.found.len() == MAX_SECRETS {
            return Err(WalkError::TooManySecrets);
        }
        let path = path.to_owned();
        self.found.push(Masked { path, is_folder });
        Ok(())
    }
}
