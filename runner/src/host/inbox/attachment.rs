//! Files that come with a message.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use drawbridge_shared::ipc::Attachment;

/// The text that the agent gets: the user's, and a line for each file. A file
/// that is not available is named as missing; the text arrives all the same.
pub(super) fn join(text: &str, attachments: &[Attachment], workspace: &Path) -> String {
    let mut joined = text.to_owned();
    for attachment in attachments {
        if !joined.is_empty() {
            joined.push('\n');
        }
        let path = one_line(&attachment.path.to_string_lossy());
        let name = attachment
            .name
            .as_deref()
            .map_or_else(|| path.clone(), one_line);
        let line = match find(&attachment.path, workspace) {
            Ok(file) => format!("[Attached file: {name}, at {}]", file.display()),
            Err(reason) => {
                tracing::warn!("attachment {path} is left out: {reason}");
                format!("[Attached file: {name}, not available: {reason}]")
            }
        };
        // Writing to a string cannot fail.
        let _ = write!(joined, "{line}");
    }
    joined
}

/// The file, which must be below the workspace, links resolved.
fn find(path: &Path, workspace: &Path) -> Result<PathBuf, &'static str> {
    let workspace = workspace.canonicalize().map_err(|_| "no workspace")?;
    let file = workspace
        .join(path)
        .canonicalize()
        .map_err(|_| "not found")?;
    if !file.starts_with(&workspace) {
        return Err("outside the group's folder");
    }
    if !file.is_file() {
        return Err("not a file");
    }
    Ok(file)
}

/// A name cannot add lines of its own to the message.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(path: &str) -> Attachment {
        Attachment {
            path: path.into(),
            name: Some("a\nname".to_owned()),
        }
    }

    #[test]
    fn files_of_the_group_are_named_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let workspace = root.join("workspace");
        std::fs::create_dir_all(workspace.join("in")).unwrap();
        std::fs::write(workspace.join("in/photo.png"), "x").unwrap();
        std::fs::write(root.join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(root.join("secret"), workspace.join("link")).unwrap();
        let text = |path: &str| join("look", &[attachment(path)], &workspace);
        let photo = workspace.join("in/photo.png");
        assert_eq!(
            text("in/photo.png"),
            format!("look\n[Attached file: a name, at {}]", photo.display())
        );
        for (path, reason) in [
            ("link", "outside the group's folder"),
            ("../secret", "outside the group's folder"),
            ("/etc/hostname", "outside the group's folder"),
            ("nothing", "not found"),
            ("in", "not a file"),
        ] {
            let expected = format!("look\n[Attached file: a name, not available: {reason}]");
            assert_eq!(text(path), expected, "{path}");
        }
    }
}
