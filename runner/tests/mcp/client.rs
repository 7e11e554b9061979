//! An MCP client, and the folders in which a host would look.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use drawbridge_testkit::{PATIENCE, eventually};
use serde_json::{Value, json};

/// A running server with its folders.
pub(crate) struct Mcp {
    pub(crate) child: Child,
    pub(crate) stdin: ChildStdin,
    lines: mpsc::Receiver<String>,
    next_id: u64,
    pub(crate) folder: tempfile::TempDir,
}

impl Mcp {
    pub(crate) fn start(is_main: bool) -> Self {
        let mut mcp = Self::spawn(is_main);
        mcp.rpc(
            "initialize",
            &json!({"protocolVersion": "2025-11-25", "capabilities": {},
                    "clientInfo": {"name": "test", "version": "0"}}),
        );
        mcp.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        mcp
    }

    pub(crate) fn spawn(is_main: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("ipc")).unwrap();
        fs::create_dir(folder.path().join("group")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_agent-runner"))
            .arg("mcp")
            .arg("--ipc")
            .arg(folder.path().join("ipc"))
            .arg("--workspace")
            .arg(folder.path().join("group"))
            .env("NANOCLAW_CHAT_JID", "1@g.us")
            .env("NANOCLAW_GROUP_FOLDER", "family")
            .env("NANOCLAW_IS_MAIN", if is_main { "1" } else { "0" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            stdout
                .lines()
                .try_for_each(|line| sender.send(line.unwrap()))
        });
        Self {
            stdin: child.stdin.take().unwrap(),
            child,
            lines,
            next_id: 0,
            folder,
        }
    }

    pub(crate) fn write(&mut self, message: &Value) {
        writeln!(self.stdin, "{message}").unwrap();
    }

    pub(crate) fn rpc(&mut self, method: &str, params: &Value) -> Value {
        let id = self.begin(method, params);
        self.answer(id)
    }

    pub(crate) fn begin(&mut self, method: &str, params: &Value) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    pub(crate) fn answer(&self, id: u64) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap();
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["id"] == id {
                return message;
            }
        }
    }

    /// Calls a tool: whether it failed, and what it said.
    pub(crate) fn call(&mut self, tool: &str, arguments: &Value) -> (bool, String) {
        let answer = self.rpc("tools/call", &json!({"name": tool, "arguments": arguments}));
        said(&answer)
    }

    pub(crate) fn ipc(&self, name: &str) -> PathBuf {
        self.folder.path().join("ipc").join(name)
    }

    pub(crate) fn group(&self) -> PathBuf {
        self.folder.path().join("group")
    }

    /// The one request in a folder, without what differs from run to run, and
    /// the name of its file.
    pub(crate) fn request(&self, folder: &str) -> (Value, String) {
        let (name, text) = wait_for_request(&self.ipc(folder));
        let mut request: Value = serde_json::from_str(&text).unwrap();
        let stamp = request["timestamp"].take();
        let stamp = stamp.as_str().unwrap();
        assert!(stamp.len() == 24 && stamp.ends_with('Z'), "{stamp}");
        request.as_object_mut().unwrap().remove("timestamp");
        fs::remove_file(self.ipc(folder).join(&name)).unwrap();
        (request, name)
    }

    /// Answers as a host that does.
    pub(crate) fn host_answers(&self, name: &str, answer: &Value) {
        let path = self.ipc("answers").join(name);
        fs::write(path.with_extension("tmp"), answer.to_string()).unwrap();
        fs::rename(path.with_extension("tmp"), path).unwrap();
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn said(answer: &Value) -> (bool, String) {
    let result = &answer["result"];
    let text = result["content"][0]["text"].as_str();
    let text = text.unwrap_or_else(|| panic!("no text in {answer}"));
    (result["isError"] == true, text.to_owned())
}

pub(crate) fn wait_for_request(folder: &Path) -> (String, String) {
    eventually(&format!("a request in {}", folder.display()), || {
        let entries = fs::read_dir(folder).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let name = { names }.find(|name| name.ends_with(".json"))?;
        let text = fs::read_to_string(folder.join(&name)).unwrap();
        Some((name, text))
    })
}
