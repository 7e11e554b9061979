//! The build context: a folder of its own, removed when the build is over.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use tempfile::TempDir;

use crate::error::{Context as _, Error, Result};
use crate::state::State;

const DOCKERFILE: &str = include_str!("../../image/Dockerfile");
const TOOLS_DOCKERFILE: &str = include_str!("../../image/tools.Dockerfile");
const PASSWD: &str = "root:x:0:0:root:/:/bin/false\nagent:x:1000:1000:agent:/home/agent:/bin/sh\n";
const GROUP: &str = "root:x:0:\nagent:x:1000:\n";

/// A staged build context.
#[derive(Debug)]
pub(super) struct Context {
    folder: TempDir,
    /// Held for as long as the folder is in use.
    _lock: Option<File>,
}

impl Context {
    /// A context for the agent images, inside the state folder, so that large
    /// files from there can be linked instead of copied.
    pub(super) fn create(state: &State) -> Result<Self> {
        let parent = state.root().join("build");
        let failed = || Error::infrastructure(format!("cannot stage in {}", parent.display()));
        fs::create_dir_all(&parent).context(failed)?;
        let lock = lock_and_clean_up(&parent).context(failed)?;
        let context = Self {
            folder: TempDir::new_in(&parent).context(failed)?,
            _lock: Some(lock),
        };
        context.lay_out().context(failed)?;
        Ok(context)
    }

    /// A context that holds nothing but the Dockerfile for tools.
    pub(super) fn for_tools() -> Result<Self> {
        let failed = || Error::infrastructure("cannot make a folder for the build");
        let folder = TempDir::new().context(failed)?;
        fs::write(folder.path().join("Dockerfile"), TOOLS_DOCKERFILE).context(failed)?;
        Ok(Self {
            folder,
            _lock: None,
        })
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn lay_out(&self) -> io::Result<()> {
        let root = self.path();
        fs::write(root.join("Dockerfile"), DOCKERFILE)?;
        let rootfs = root.join("rootfs");
        for folder in ["bin", "etc", "home", "run/drawbridge", "tmp"] {
            fs::create_dir_all(rootfs.join(folder))?;
        }
        fs::create_dir(root.join("empty"))?;
        fs::create_dir(root.join("programs"))?;
        fs::write(rootfs.join("etc/passwd"), PASSWD)?;
        fs::write(rootfs.join("etc/group"), GROUP)?;
        fs::set_permissions(rootfs.join("tmp"), Permissions::from_mode(0o1777))?;
        // NanoClaw's host mounts /home/node/.claude.
        symlink("agent", rootfs.join("home/node"))
    }

    /// Puts a program into the context, executable for everyone.
    pub(super) fn add_program(&self, source: &Path, name: &str) -> Result<()> {
        let target = self.path().join(name);
        let failed = || Error::infrastructure(format!("cannot stage {}", source.display()));
        let source = fs::canonicalize(source).context(failed)?;
        if is_executable_by_all(&source) && fs::hard_link(&source, &target).is_ok() {
            return Ok(());
        }
        // Where the file system can, the copy shares its blocks.
        fs::copy(&source, &target).context(failed)?;
        fs::set_permissions(&target, Permissions::from_mode(0o755)).context(failed)
    }

    /// Links each of busybox's applets to it.
    pub(super) fn link_applets<'a>(&self, applets: impl Iterator<Item = &'a str>) -> Result<()> {
        let bin = self.path().join("rootfs/bin");
        for applet in applets {
            let is_name = !applet.is_empty() && !applet.contains(['/', ' ']);
            if is_name && applet != "busybox" {
                symlink("busybox", bin.join(applet))
                    .context(|| Error::infrastructure(format!("cannot link {applet}")))?;
            }
        }
        Ok(())
    }
}

/// One build at a time stages here, and what is there when it begins was left
/// by one that was killed.
fn lock_and_clean_up(parent: &Path) -> io::Result<File> {
    let lock = File::create(parent.join("lock"))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::other("another build-image is running"),
        TryLockError::Error(error) => error,
    })?;
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(lock)
}

/// A link shares the permissions, so they have to be right already.
fn is_executable_by_all(program: &Path) -> bool {
    fs::metadata(program).is_ok_and(|meta| meta.permissions().mode() & 0o555 == 0o555)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_build_at_a_time_and_leftovers_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join(".left-by-a-killed-build")).unwrap();
        let lock = lock_and_clean_up(parent.path()).unwrap();
        assert_eq!(
            fs::read_dir(parent.path()).unwrap().count(),
            1,
            "only the lock"
        );
        let error = lock_and_clean_up(parent.path()).unwrap_err();
        assert_eq!(error.to_string(), "another build-image is running");
        drop(lock);
        lock_and_clean_up(parent.path()).unwrap();
    }
}
