//! Files that the agent exports from its workspace.
//!
//! What the host gets is a copy in a folder that the agent cannot reach. A path
//! into the workspace would be safe only until the agent puts a symlink there.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::state::Folder;

/// Largest file that is handed out, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// Most bytes of files of one run.
const MAX_RUN: u64 = 512 * 1024 * 1024;
/// Most files that one answer can name.
const MAX_TAGS: usize = 20;
/// The beginning of the tag with which an answer names a file.
const TAG: &str = "[send_file:";

/// The export of files of one run.
#[derive(Debug)]
pub(crate) struct Outgoing {
    workspace: PathBuf,
    /// The workspace, as the agent calls it.
    inside: PathBuf,
    copies: PathBuf,
    count: u32,
    room: u64,
}

impl Outgoing {
    /// The way from a workspace, which the agent knows as `inside`, to `copies`.
    /// What an earlier run has left there goes.
    pub(crate) fn new(workspace: PathBuf, inside: PathBuf, copies: PathBuf) -> io::Result<Self> {
        match fs::remove_dir_all(&copies) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self {
            workspace,
            inside,
            copies,
            count: 0,
            room: MAX_RUN,
        })
    }

    /// Copies a file of the workspace out, and returns where it is. The error
    /// is for the agent.
    pub(crate) fn export(&mut self, path: &str) -> Result<PathBuf, String> {
        let file = self.find(path)?;
        let limit = MAX_FILE.min(self.room);
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        if length > limit {
            return Err(format!("it has {length} bytes; {limit} can be sent"));
        }
        let name = Path::new(path)
            .file_name()
            .unwrap_or_else(|| OsStr::new("file"));
        let copy = self.copies.join(self.count.to_string()).join(name);
        self.count += 1;
        // It may grow while it is copied.
        let copied = copy_to(&copy, file.take(limit))
            .map_err(|error| format!("it cannot be copied: {error}"))?;
        self.room -= copied;
        Ok(copy)
    }

    /// An absolute path is one inside the container; a path of this machine
    /// means nothing, even if it is there.
    fn find(&self, path: &str) -> Result<File, String> {
        let path = Path::new(path);
        let below = if path.is_absolute() {
            path.strip_prefix(&self.inside)
                .map_err(|_| "only files in the group's folder can be sent".to_owned())?
        } else {
            path
        };
        let workspace = Folder::open(&self.workspace)
            .map_err(|error| format!("the group's folder cannot be opened: {error}"))?;
        workspace.file(below)
    }

    /// Takes the `[send_file: PATH]` tags out of an answer. Returns the files,
    /// and what was wrong with those whose tags are still there.
    pub(crate) fn take_tags(&mut self, text: &mut String) -> (Vec<PathBuf>, Vec<String>) {
        let (mut files, mut complaints) = (Vec::new(), Vec::new());
        for (tag, path) in tags(text) {
            match self.export(&path) {
                Ok(file) => {
                    files.push(file);
                    *text = text.replace(&tag, "");
                }
                Err(reason) => complaints.push(format!("{path:?} cannot be sent: {reason}")),
            }
        }
        if !files.is_empty() {
            text.truncate(text.trim_end().len());
        }
        (files, complaints)
    }
}

fn copy_to(path: &Path, mut content: impl Read) -> io::Result<u64> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut options = OpenOptions::new();
    let mut copy = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    io::copy(&mut content, &mut copy)
}

/// The tags of a text with the path in each; every tag once.
fn tags(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(TAG) {
        rest = &rest[start..];
        let Some(end) = rest.find([']', '\n']) else {
            break;
        };
        if rest.as_bytes()[end] == b']' {
            let tag = &rest[..=end];
            let path = rest[TAG.len()..end].trim();
            if !path.is_empty() && !found.iter().any(|(known, _)| known == tag) {
                found.push((tag.to_owned(), path.to_owned()));
            }
        }
        if found.len() == MAX_TAGS {
            break;
        }
        rest = &rest[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Bench {
        outer: tempfile::TempDir,
        outgoing: Outgoing,
    }

    impl Bench {
        fn new() -> Self {
            let outer = tempfile::tempdir().unwrap();
            let workspace = outer.path().join("workspace");
            fs::create_dir_all(workspace.join("sub")).unwrap();
            fs::write(workspace.join("sub/report.pdf"), "report").unwrap();
            fs::write(outer.path().join("secret"), "secret").unwrap();
            let inside = PathBuf::from("/workspace/group");
            let copies = outer.path().join("outgoing");
            let outgoing = Outgoing::new(workspace, inside, copies).unwrap();
            Self { outer, outgoing }
        }

        #[track_caller]
        fn sent(&mut self, path: &str) -> String {
            fs::read_to_string(self.outgoing.export(path).unwrap()).unwrap()
        }

        #[track_caller]
        fn refused(&mut self, path: &str, expected: &str) {
            let reason = self.outgoing.export(path).unwrap_err();
            assert!(reason.contains(expected), "{path}: {reason}");
        }
    }

    #[test]
    fn relative_and_container_paths_lead_to_the_workspace() {
        let mut bench = Bench::new();
        assert_eq!(bench.sent("sub/report.pdf"), "report");
        assert_eq!(bench.sent("/workspace/group/sub/report.pdf"), "report");
        let path = bench.outgoing.export("./sub/report.pdf").unwrap();
        assert!(path.ends_with("report.pdf"), "{path:?}");
    }

    /// Hole (a): a path that exists on the host was taken as it is.
    #[test]
    fn a_path_of_the_host_is_refused() {
        let mut bench = Bench::new();
        bench.refused("/etc/passwd", "group's folder");
        let secret = bench.outer.path().join("secret").display().to_string();
        bench.refused(&secret, "group's folder");
        let own = bench.outer.path().join("workspace/sub/report.pdf");
        bench.refused(&own.display().to_string(), "group's folder");
    }

    /// Hole (b): parent segments left the folder after the mapping.
    #[test]
    fn parent_segments_are_refused() {
        let mut bench = Bench::new();
        bench.refused("../secret", "\"..\"");
        bench.refused("/workspace/group/../secret", "\"..\"");
        bench.refused("/workspace/group/../../etc/passwd", "\"..\"");
        bench.refused("sub/../sub/report.pdf", "\"..\"");
        bench.refused("/workspace/group-2/x", "group's folder");
    }

    /// Hole (c): symlinks of the workspace were followed on the host.
    #[test]
    fn symlinks_are_refused() {
        let mut bench = Bench::new();
        let workspace = bench.outer.path().join("workspace");
        symlink("../secret", workspace.join("link")).unwrap();
        symlink("..", workspace.join("up")).unwrap();
        symlink("/etc", workspace.join("etc")).unwrap();
        for path in ["link", "up/secret", "etc/passwd"] {
            bench.refused(path, "symlink");
        }
        bench.refused("sub", "not a regular file");
        bench.refused("", "the path is empty");
        bench.refused("/workspace/group", "the path is empty");
    }

    #[test]
    fn what_was_handed_out_does_not_change_any_more() {
        let mut bench = Bench::new();
        let copy = bench.outgoing.export("sub/report.pdf").unwrap();
        let original = bench.outer.path().join("workspace/sub/report.pdf");
        fs::remove_file(&original).unwrap();
        symlink("/etc/passwd", &original).unwrap();
        assert_eq!(fs::read_to_string(copy).unwrap(), "report");
    }

    #[test]
    fn a_flood_is_refused() {
        let mut bench = Bench::new();
        let huge = bench.outer.path().join("workspace/huge");
        File::create(huge).unwrap().set_len(MAX_FILE + 1).unwrap();
        bench.refused("huge", "can be sent");
        bench.outgoing.room = 8;
        assert_eq!(bench.sent("sub/report.pdf"), "report");
        bench.refused("sub/report.pdf", "2 can be sent");
    }

    #[test]
    fn tags_become_files_and_the_others_stay() {
        let mut bench = Bench::new();
        let mut text = "Here: [send_file: sub/report.pdf] [send_file: sub/report.pdf]\n\
                        [send_file: /etc/passwd] and [send_file: \n not a tag]"
            .to_owned();
        let (files, complaints) = bench.outgoing.take_tags(&mut text);
        assert_eq!(files.len(), 1);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert_eq!(
            text,
            "Here:  \n[send_file: /etc/passwd] and [send_file: \n not a tag]"
        );
        let mut plain = "no tag  \n".to_owned();
        let (files, complaints) = bench.outgoing.take_tags(&mut plain);
        assert!(files.is_empty() && complaints.is_empty());
        assert_eq!(plain, "no tag  \n");
    }
}
