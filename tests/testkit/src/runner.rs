//! The folders of a group, as a host of `agent-runner` sees them.

use std::fs;
use std::path::{Path, PathBuf};

use drawbridge_shared::ipc::{message_file_name, write_atomic};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A group's folders; they outlive a run.
#[derive(Debug)]
pub struct Group {
    folder: TempDir,
}

impl Group {
    /// Empty folders.
    ///
    /// # Panics
    /// There is no room for them.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a default makes no folders on disk"
    )]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["workspace", "home", "ipc/input"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    /// The folder above all of them.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// A run document with this prompt and agent.
    #[must_use]
    pub fn document(&self, run_id: &str, prompt: &str, agent: &Value) -> Value {
        json!({
            "prompt": prompt, "groupFolder": "main", "chatJid": "1@g.us", "isMain": true,
            "drawbridge": {
                "runId": run_id,
                "agent": agent,
                "paths": {
                    "workspace": self.path("workspace"),
                    "ipc": self.path("ipc"),
                    "home": self.path("home"),
                },
            },
        })
    }

    /// Sends a message to the conversation.
    pub fn message(&self, text: &str) {
        self.send(&json!({ "type": "message", "text": text }));
    }

    /// Sends a document of any type.
    pub fn send(&self, content: &Value) {
        self.input_file(&message_file_name(), content);
    }

    /// Sends a document in a file of this name.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn input_file(&self, name: &str, content: &Value) {
        let path = self.path("ipc/input").join(name);
        write_atomic(&path, content.to_string().as_bytes()).unwrap();
    }

    /// Asks for the end as NanoClaw's host does, or as ours with the run's id.
    ///
    /// # Panics
    /// The request cannot be written.
    pub fn close(&self, run_id: &str) {
        write_atomic(&self.path("ipc/input/_close"), run_id.as_bytes()).unwrap();
    }

    /// Names of files in a folder of `ipc/input`, hidden ones left out.
    ///
    /// # Panics
    /// A name is not UTF-8.
    #[must_use]
    pub fn input_files(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path("ipc/input").join(folder));
        let mut names: Vec<_> = entries
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }
}
