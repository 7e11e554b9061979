//! Files written whole and opened without surprise.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tempfile::{Builder, NamedTempFile};

/// The owner and the permissions of a written file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Ours, and readable and writable by nobody else.
    Private,
    /// Those of the file that is replaced; a new file is ours, with this mode.
    Kept {
        /// Mode of a new file.
        new: u32,
    },
}

/// The guarantee that a written file gives after a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The new content is on disk.
    Synced,
    /// The old content, the new one or an empty file: for what is soon written
    /// again.
    Unsynced,
}

/// New content for a file, in a hidden temporary file in the same folder.
///
/// The temporary name ends in `.tmp`, so that readers of `*.json` never see it.
/// Nothing is left when it is dropped.
#[derive(Debug)]
pub struct Replacement {
    file: NamedTempFile,
    path: PathBuf,
}

impl Replacement {
    /// Prepares to write `path`: what prevents writing shows here, before there
    /// is something to write.
    ///
    /// # Errors
    /// The folder is missing or not writable, or the owner cannot be kept.
    pub fn prepare(path: &Path, access: Access) -> io::Result<Self> {
        let file = Builder::new()
            .prefix(".")
            .suffix(".tmp")
            .tempfile_in(folder_of(path))?;
        if let Access::Kept { new } = access {
            keep_access(file.as_file(), path, new)?;
        }
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Writes the content and puts the file in its place: a reader sees the old
    /// content or this one.
    ///
    /// # Errors
    /// The disk is full, or the file cannot be renamed.
    pub fn write(mut self, content: &[u8], durability: Durability) -> io::Result<()> {
        self.file.write_all(content)?;
        let is_synced = durability == Durability::Synced;
        if is_synced {
            self.file.as_file().sync_all()?;
        }
        self.file.persist(&self.path)?;
        if is_synced {
            // Without this the rename itself may be lost with the power.
            File::open(folder_of(&self.path))?.sync_all()?;
        }
        Ok(())
    }
}

/// Writes a private file that readers see whole or not at all, also after a
/// crash.
///
/// # Errors
/// The folder is missing, full or not writable.
pub fn write_atomic(path: &Path, content: &[u8]) -> io::Result<()> {
    Replacement::prepare(path, Access::Private)?.write(content, Durability::Synced)
}

/// Replaces a file that a person keeps: its owner and permissions stay. A new
/// one may be read by all.
///
/// # Errors
/// The folder is missing, full or not writable, or the owner cannot be kept.
pub fn replace_atomic(path: &Path, content: &[u8]) -> io::Result<()> {
    let access = Access::Kept { new: 0o644 };
    Replacement::prepare(path, access)?.write(content, Durability::Synced)
}

/// Opens a file that the agent may have put there: no link and no pipe.
///
/// # Errors
/// It cannot be opened, or is not a regular file (`InvalidData`).
pub fn open_regular(path: &Path) -> io::Result<File> {
    // NONBLOCK, so that opening a pipe does not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        let what = "not a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(file)
}

fn keep_access(file: &File, path: &Path, new_mode: u32) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(old) => {
            let new = file.metadata()?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                fchown(file, Some(old.uid()), Some(old.gid()))?;
            }
            file.set_permissions(old.permissions())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            file.set_permissions(fs::Permissions::from_mode(new_mode))
        }
        Err(error) => Err(error),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_content_replaces_the_old_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_reader_never_sees_a_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let contents = [vec![b'a'; 1 << 20], vec![b'b'; 1 << 20]];
        write_atomic(&path, &contents[0]).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for number in 0..50 {
                    write_atomic(&path, &contents[number % 2]).unwrap();
                }
            });
            while !writer.is_finished() {
                let seen = fs::read(&path).unwrap();
                assert!(contents.contains(&seen), "{} bytes", seen.len());
            }
        });
    }

    #[test]
    fn a_replaced_file_keeps_its_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
        replace_atomic(&path, b"new").unwrap();
        assert_eq!(mode(), 0o644);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        replace_atomic(&path, b"newer").unwrap();
        assert_eq!(
            (mode(), fs::read(&path).unwrap()),
            (0o640, b"newer".to_vec())
        );
    }

    #[test]
    fn neither_a_link_nor_a_folder_nor_a_pipe_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "content").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        open_regular(&path("file")).unwrap();
        open_regular(&path("link")).unwrap_err();
        for name in ["pipe", "."] {
            let error = open_regular(&path(name)).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file", "{name}");
        }
    }
}
