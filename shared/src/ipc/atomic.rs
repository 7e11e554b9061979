//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// Writes a file that readers see whole or not at all, also after a crash.
///
/// The content goes to a hidden temporary file in the same folder, is synced to
/// disk, and is renamed. The temporary name ends in `.tmp`, so that readers of
/// `*.json` never see it.
///
/// # Errors
/// The folder is missing, full or not writable.
pub fn write_atomic(path: &Path, content: &[u8]) -> io::Result<()> {
    finish(begin(path, content)?, path)
}

/// The same for a file that a person keeps: it stays whose it was, with the
/// permissions it had. A new one may be read by all.
///
/// # Errors
/// The same, or the old file's owner cannot be kept.
pub fn replace_atomic(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = begin(path, content)?;
    match fs::metadata(path) {
        Ok(old) => {
            let new = file.as_file().metadata()?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
            }
            file.as_file().set_permissions(old.permissions())?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let for_all = fs::Permissions::from_mode(0o644);
            file.as_file().set_permissions(for_all)?;
        }
        Err(error) => return Err(error),
    }
    finish(file, path)
}

fn begin(path: &Path, content: &[u8]) -> io::Result<NamedTempFile> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = Builder::new()
        .prefix(".")
        .suffix(".tmp")
        .tempfile_in(folder)?;
    file.write_all(content)?;
    Ok(file)
}

fn finish(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path)?;
    // Without this the rename itself may be lost with the power.
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    File::open(folder)?.sync_all()
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

    /// Whoever reads while it is written sees the old content or the new one.
    #[test]
    fn nobody_sees_a_part() {
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
    fn a_file_that_a_person_keeps_keeps_its_permissions() {
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
}
