//! What NanoClaw's host does with a container, as documented: its command line,
//! its folders and its parser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const START: &str = "---NANOCLAW_OUTPUT_START---";
const END: &str = "---NANOCLAW_OUTPUT_END---";

/// Its streaming parser: finds a start marker, then an end marker, and parses
/// what is between. Text that is not JSON is skipped.
#[must_use]
pub fn records(mut output: &str) -> Vec<Value> {
    let mut records = Vec::new();
    while let Some(start) = output.find(START) {
        let Some(length) = output[start..].find(END) else {
            break;
        };
        let json = output[start + START.len()..start + length].trim();
        records.extend(serde_json::from_str::<Value>(json));
        output = &output[start + length + END.len()..];
    }
    records
}

/// Checks a record against its `ContainerOutput` type, beside which our own host
/// may be given other fields.
///
/// # Panics
/// A field is missing, unknown or of another type.
pub fn check(record: &Value, ours: &[&str]) {
    let fields = record.as_object().unwrap();
    let is_text = |name: &str| record[name].is_string();
    assert!(
        record["status"] == "success" || record["status"] == "error",
        "{record}"
    );
    assert!(fields.contains_key("result"), "{record}");
    for name in fields.keys().map(String::as_str) {
        match name {
            "status" | "newSessionId" => assert!(is_text(name), "{record}"),
            "result" => assert!(record[name].is_null() || is_text(name), "{record}"),
            "error" => assert!(is_text(name) && record["status"] == "error", "{record}"),
            _ => assert!(ours.contains(&name), "unknown field {name}: {record}"),
        }
    }
}

/// A project folder laid out as its host does for one group that is not main.
#[derive(Clone, Debug)]
pub struct Project {
    root: PathBuf,
    group: String,
}

impl Project {
    /// Makes the folders; `owner` is the user NanoClaw's host runs as.
    ///
    /// # Panics
    /// They cannot be made.
    #[must_use]
    pub fn create(root: &Path, group: &str, owner: u32) -> Self {
        let project = Self {
            root: root.to_owned(),
            group: group.to_owned(),
        };
        let ipc = project.ipc();
        let sessions = root.join("data/sessions").join(group);
        let folders = [
            root.join("groups").join(group),
            root.join("groups/global"),
            sessions.join(".claude/skills"),
            sessions.join("agent-runner-src"),
            ipc.join("messages"),
            ipc.join("tasks"),
            ipc.join("input"),
        ];
        for folder in &folders {
            fs::create_dir_all(folder).unwrap();
        }
        let settings = r#"{"env":{"CLAUDE_CODE_EXPERIMENTAL_AGENT_TEAMS":"1","CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD":"1","CLAUDE_CODE_DISABLE_AUTO_MEMORY":"0"}}"#;
        fs::write(sessions.join(".claude/settings.json"), settings).unwrap();
        fs::write(root.join("groups/global/CLAUDE.md"), "# Global memory\n").unwrap();
        fs::write(ipc.join("current_tasks.json"), "[]").unwrap();
        fs::write(
            ipc.join("available_groups.json"),
            r#"{"groups":[],"lastSync":""}"#,
        )
        .unwrap();
        give(root, owner);
        project
    }

    /// The group's IPC folder on the host.
    #[must_use]
    pub fn ipc(&self) -> PathBuf {
        self.root.join("data/ipc").join(&self.group)
    }

    /// Its `docker run` line. `user` is set unless the host's user is 0 or 1000.
    #[must_use]
    pub fn command(&self, name: &str, proxy_port: u16, user: Option<u32>, image: &str) -> Command {
        let (root, group) = (self.root.display(), &self.group);
        let mut args: Vec<String> = ["run", "-i", "--rm", "--name", name].map(Into::into).into();
        let mut add = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
        add("-e", "TZ=Europe/Berlin".into());
        add(
            "-e",
            format!("ANTHROPIC_BASE_URL=http://host.docker.internal:{proxy_port}"),
        );
        add("-e", "ANTHROPIC_API_KEY=placeholder".into());
        add("--add-host", "host.docker.internal:host-gateway".into());
        if let Some(user) = user {
            add("--user", format!("{user}:{user}"));
            add("-e", "HOME=/home/node".into());
        }
        add("-v", format!("{root}/groups/{group}:/workspace/group"));
        add("-v", format!("{root}/groups/global:/workspace/global:ro"));
        add(
            "-v",
            format!("{root}/data/sessions/{group}/.claude:/home/node/.claude"),
        );
        add("-v", format!("{root}/data/ipc/{group}:/workspace/ipc"));
        add(
            "-v",
            format!("{root}/data/sessions/{group}/agent-runner-src:/app/src"),
        );
        args.push(image.to_owned());
        let mut command = Command::new("docker");
        command.args(args);
        command
    }

    /// Writes a follow-up as its host does: a temporary file, then a rename.
    ///
    /// # Panics
    /// The folder cannot be written.
    pub fn send(&self, number: u32, text: &str) {
        let input = self.ipc().join("input");
        let name = format!("17000000{number:05}-ab1c.json");
        let content = serde_json::json!({ "type": "message", "text": text }).to_string();
        let draft = input.join(format!("{name}.tmp"));
        fs::write(&draft, content).unwrap();
        fs::rename(draft, input.join(name)).unwrap();
    }

    /// Asks for the end of the conversation as its host does.
    ///
    /// # Panics
    /// The folder cannot be written.
    pub fn close(&self) {
        fs::write(self.ipc().join("input/_close"), "").unwrap();
    }
}

/// Gives a tree to a user; only root can, and only root needs to.
pub(crate) fn give(path: &Path, owner: u32) {
    let _ = std::os::unix::fs::lchown(path, Some(owner), Some(owner));
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            give(&entry.path(), owner);
        }
    }
}
