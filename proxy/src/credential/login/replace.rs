//! Replacing a file in one step, its mode and owner kept.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A new file beside the one it is to replace.
#[derive(Debug)]
pub(super) struct Replacement {
    file: NamedTempFile,
    path: PathBuf,
}

impl Replacement {
    /// Makes the new file, so that what prevents writing shows before there is
    /// something to write. A link is followed: its target is replaced.
    pub(super) fn prepare(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        let old = fs::metadata(&path)?;
        let folder = path.parent().unwrap_or_else(|| Path::new("/"));
        let file = tempfile::Builder::new()
            .prefix(".drawbridge-")
            .suffix(".tmp")
            .permissions(old.permissions())
            .tempfile_in(folder)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt as _, fchown};
            let new = file.as_file().metadata()?;
            if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
                fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
            }
            // The process's mask took bits away; they are the user's choice.
            file.as_file().set_permissions(old.permissions())?;
        }
        Ok(Self { file, path })
    }

    /// Readers see the old content or this one, also after a crash.
    pub(super) fn write(mut self, content: &[u8]) -> io::Result<()> {
        self.file.write_all(content)?;
        self.file.as_file().sync_all()?;
        self.file.persist(&self.path)?;
        let folder = self.path.parent().unwrap_or_else(|| Path::new("/"));
        // Without this the renaming itself may be lost with the power.
        fs::File::open(folder)?.sync_all()
    }
}
