//! Files that may leave the container: those below the group's folder.

use std::path::{Path, PathBuf};

/// A regular file below the group's folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GroupFile {
    /// Path below the group's folder, without symlinks.
    pub(super) path: PathBuf,
}

impl GroupFile {
    /// Finds a file; a relative path counts from the group's folder. Symlinks
    /// are followed before the place is judged. The error is for the model.
    ///
    /// The host resolves the path again before it reads the file, as the agent
    /// may change it in between.
    pub(super) fn find(group: &Path, path: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("Cannot send \"{path}\": {why}."));
        let Ok(group) = group.canonicalize() else {
            return refuse("the group's folder does not exist");
        };
        let Ok(real) = group.join(path).canonicalize() else {
            return refuse("there is no such file");
        };
        let Ok(inside) = real.strip_prefix(&group) else {
            return refuse("only files in the group's folder can be sent");
        };
        if !real.is_file() {
            return refuse("it is not a regular file");
        }
        Ok(Self {
            path: inside.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_files_below_the_folder_are_found() {
        let outer = tempfile::tempdir().unwrap();
        let group = outer.path().join("group");
        fs::create_dir_all(group.join("sub")).unwrap();
        fs::write(group.join("sub/report.pdf"), "x").unwrap();
        fs::write(outer.path().join("secret"), "x").unwrap();
        fs::create_dir(outer.path().join("group-2")).unwrap();
        fs::write(outer.path().join("group-2/other"), "x").unwrap();
        symlink("../secret", group.join("link")).unwrap();
        symlink("..", group.join("up")).unwrap();
        symlink("sub/report.pdf", group.join("latest")).unwrap();

        let found = |path: &str| GroupFile::find(&group, path).map(|file| file.path);
        let report = Ok(PathBuf::from("sub/report.pdf"));
        assert_eq!(found("sub/report.pdf"), report);
        assert_eq!(found("sub/../sub/report.pdf"), report);
        assert_eq!(found("latest"), report);
        assert_eq!(found(group.join("latest").to_str().unwrap()), report);
        for bad in [
            "link",
            "up/secret",
            "../secret",
            "../group-2/other",
            "/etc/passwd",
            "sub",
            "none",
            "",
        ] {
            found(bad).unwrap_err();
        }
    }
}
