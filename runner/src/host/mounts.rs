//! Verification that the mounts are those the launcher has checked.
//!
//! The launcher checks a folder by its name, and the engine mounts by name a
//! moment later. Whoever could change the name in between would have something
//! else mounted, or a secret uncovered. Mounted is mounted, though: what this
//! process finds before it starts an agent stays.

use std::fs;
use std::os::unix::fs::MetadataExt;

use drawbridge_shared::protocol::MountedFile;

/// A mount that is not what was checked.
#[derive(Debug, thiserror::Error)]
#[error("{} is not what was checked on the host, so the agent is not started", .0.display())]
pub(crate) struct MountChanged(std::path::PathBuf);

/// Compares what is found with what was checked.
///
/// # Errors
/// A path leads elsewhere, or nowhere.
pub(crate) fn verify(expected: &[MountedFile]) -> Result<(), MountChanged> {
    match expected.iter().find(|file| !is_there(file)) {
        None => Ok(()),
        Some(file) => Err(MountChanged(file.path.clone())),
    }
}

fn is_there(file: &MountedFile) -> bool {
    let is_plain = fs::canonicalize(&file.path).is_ok_and(|path| path == file.path);
    let found = fs::symlink_metadata(&file.path);
    is_plain && found.is_ok_and(|found| (found.dev(), found.ino()) == (file.device, file.inode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_was_exchanged_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let (checked, other) = (root.join("checked"), root.join("other"));
        fs::create_dir(&checked).unwrap();
        fs::create_dir(&other).unwrap();
        let metadata = fs::metadata(&checked).unwrap();
        let expected = [MountedFile {
            path: checked.clone(),
            device: metadata.dev(),
            inode: metadata.ino(),
        }];
        verify(&expected).unwrap();
        fs::rename(&checked, root.join("away")).unwrap();
        verify(&expected).unwrap_err();
        symlink(root.join("away"), &checked).unwrap();
        verify(&expected).unwrap_err();
        fs::remove_file(&checked).unwrap();
        fs::rename(&other, &checked).unwrap();
        let error = verify(&expected).unwrap_err();
        assert!(error.to_string().contains("not what was checked"));
    }
}
