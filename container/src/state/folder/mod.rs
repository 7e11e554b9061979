//! Folders that an agent can write to, used from outside its container.
//!
//! The agent may put a symlink, a pipe, a device or a flood where a file is
//! expected, and may do so between the time of check and the time of use. So a folder is held open,
//! every step goes from one open folder to a name in it, no step follows a
//! symlink, and a file is judged by the handle it is read through. That is what
//! `openat2` does with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`, on every
//! platform and without asking for a kernel.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use drawbridge_shared::ids::hex;
use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::spec::User;

/// Flags for opening a folder on the way.
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Flags for opening a file: a pipe must not make us wait for its writer, nor a
/// terminal become ours.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

impl Folder {
    /// Opens a folder whose parents belong to the launcher.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(fs::open(path, FOLDER, Mode::empty())?))
    }

    /// Opens a folder in this one and makes it if it is not there. Whatever
    /// else has its name is removed: nothing of ours can be there.
    pub(crate) fn folder(&self, name: &str, owner: Option<User>) -> io::Result<Self> {
        match self.existing(name) {
            Err(Errno::NOENT) => {}
            Err(Errno::LOOP | Errno::NOTDIR) => fs::unlinkat(&self.0, name, AtFlags::empty())?,
            opened => return Ok(opened?),
        }
        match fs::mkdirat(&self.0, name, Mode::RWXU) {
            Err(Errno::EXIST) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        let made = self.existing(name)?;
        if let Some(user) = owner {
            give(&made.0, user)?;
        }
        Ok(made)
    }

    fn existing(&self, name: impl rustix::path::Arg) -> Result<Self, Errno> {
        fs::openat(&self.0, name, FOLDER, Mode::empty()).map(Self)
    }

    /// The names of up to `limit` entries, in order.
    pub(crate) fn names(&self, limit: usize) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == limit {
                break;
            }
            names.push(OsString::from_vec(name.to_vec()));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens a regular file below this folder. The error says what is wrong
    /// with the path.
    pub(crate) fn file(&self, path: &Path) -> Result<File, String> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::CurDir => {}
                Component::ParentDir => return Err("\"..\" is not allowed".to_owned()),
                Component::RootDir | Component::Prefix(_) => return Err("it is not below".into()),
            }
        }
        let Some((name, folders)) = names.split_last() else {
            return Err("the path is empty".to_owned());
        };
        let mut at = None;
        for folder in folders {
            let next = at.as_ref().unwrap_or(self).existing(*folder);
            at = Some(next.map_err(describe)?);
        }
        at.as_ref().unwrap_or(self).regular(name)
    }

    fn regular(&self, name: &OsStr) -> Result<File, String> {
        let file = fs::openat(&self.0, name, FILE, Mode::empty()).map_err(describe)?;
        let stat = fs::fstat(&file).map_err(describe)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            Ok(file.into())
        } else {
            Err("it is not a regular file".to_owned())
        }
    }

    /// The content of a regular file of at most `limit` bytes.
    pub(crate) fn read(&self, name: &OsStr, limit: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        self.regular(name)?
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        if bytes.len() as u64 > limit {
            return Err(format!("it is larger than {limit} bytes"));
        }
        Ok(bytes)
    }

    /// Writes a file that readers see whole or not at all, and that belongs to
    /// `owner` from the moment it appears.
    pub(crate) fn write(&self, name: &str, content: &[u8], owner: Option<User>) -> io::Result<()> {
        let temporary = temporary_name()?;
        let written = self
            .write_new(&temporary, content, owner)
            .and_then(|()| Ok(fs::renameat(&self.0, &temporary, &self.0, name)?));
        if written.is_err() {
            let _ = fs::unlinkat(&self.0, &temporary, AtFlags::empty());
        }
        written?;
        // Without this the rename itself may be lost with the power.
        Ok(fs::fsync(&self.0)?)
    }

    fn write_new(&self, name: &str, content: &[u8], owner: Option<User>) -> io::Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?;
        if let Some(user) = owner {
            give(&file, user)?;
        }
        let mut file = File::from(file);
        file.write_all(content)?;
        file.sync_all()
    }

    /// Moves an entry into another folder of the same file system; what has
    /// the name there is replaced.
    pub(crate) fn move_to(&self, name: &OsStr, to: &Self, new_name: &OsStr) -> io::Result<()> {
        Ok(fs::renameat(&self.0, name, &to.0, new_name)?)
    }

    /// Waits until what was done to the names in it is on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(fs::fsync(&self.0)?)
    }

    /// Whether an entry is a folder.
    pub(crate) fn is_folder(&self, name: &OsStr) -> bool {
        fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// Whether there is an entry of this name.
    pub(crate) fn has(&self, name: &OsStr) -> bool {
        fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Removes a file or an empty folder; one that is not there is fine. A folder
    /// with something in it gets a name that means nothing: it may be deeper than
    /// there are descriptors to follow it.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        let mut removed = fs::unlinkat(&self.0, name, AtFlags::empty());
        if let Err(Errno::ISDIR | Errno::PERM) = removed {
            removed = fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR);
        }
        match removed {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                Ok(fs::renameat(&self.0, name, &self.0, temporary_name()?)?)
            }
            Err(Errno::NOENT) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn give(fd: &OwnedFd, user: User) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    Ok(fs::fchown(fd, Some(uid), Some(gid))?)
}

/// A name that no reader of `*.json` looks at and that nobody can foresee.
fn temporary_name() -> io::Result<String> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(format!(".{}.tmp", hex(&bytes)))
}

/// The error of a name, in words for the agent and for a person.
fn describe(error: Errno) -> String {
    match error {
        Errno::NOENT => "there is no such file".to_owned(),
        Errno::LOOP | Errno::NOTDIR => "a part of it is a symlink or no folder".to_owned(),
        // What `open` says to a socket or to a device without a driver.
        Errno::NXIO | Errno::OPNOTSUPP => "it is not a regular file".to_owned(),
        error => io::Error::from(error).to_string(),
    }
}

/// Whether a name can be that of a request: visible, JSON, and short enough to
/// be written with a suffix.
pub(crate) fn is_request_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    bytes.ends_with(b".json") && !bytes.starts_with(b".") && bytes.len() <= 200
}

#[cfg(test)]
mod tests;
