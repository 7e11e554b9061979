//! One run of a runner under measurement.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use drawbridge_shared::file::write_atomic;
use drawbridge_shared::ipc::message_file_name;
use serde_json::json;

use crate::clock;

/// Nothing here takes as long, unless it is broken.
const DEADLINE: Duration = Duration::from_secs(120);

/// A runner to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Node,
}

/// A running runner with an agent.
pub(crate) struct Subject {
    child: Child,
    output: BufReader<ChildStdout>,
    dir: tempfile::TempDir,
    started: u128,
}

impl Subject {
    /// Starts it; the agent gets `prompt` first.
    pub(crate) fn start(kind: Kind, program: &Path, prompt: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        for name in ["workspace", "home", "ipc/input"] {
            fs::create_dir_all(dir.path().join(name))?;
        }
        let path = |name: &str| dir.path().join(name);
        let document = json!({
            "prompt": prompt, "groupFolder": "main", "chatJid": "1@g.us", "isMain": true,
            "drawbridge": {
                "agent": {"kind": "claude", "command": [std::env::current_exe()?, "agent"]},
                "paths": {"workspace": path("workspace"), "ipc": path("ipc"), "home": path("home")},
            },
        });
        let mut command = match kind {
            Kind::Ours => Command::new(program),
            Kind::Node => {
                let mut command = Command::new("node");
                command.arg(program);
                command
            }
        };
        let started = clock::nanos();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {kind:?}"))?;
        let mut input = child.stdin.take().context("no standard input")?;
        input.write_all(document.to_string().as_bytes())?;
        drop(input);
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self {
            child,
            output,
            dir,
            started,
        })
    }

    /// Waits for the next record.
    pub(crate) fn record(&mut self) -> anyhow::Result<()> {
        let mut line = String::new();
        while !line.starts_with("---NANOCLAW_OUTPUT_END") {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                bail!("it ended without a record");
            }
        }
        Ok(())
    }

    /// Milliseconds from its start to the agent's.
    pub(crate) fn start_millis(&self) -> anyhow::Result<f64> {
        Ok(millis(self.noted("started")? - self.started))
    }

    /// Sends a follow-up: milliseconds until the agent has read it.
    pub(crate) fn follow_up(&mut self, text: &str) -> anyhow::Result<f64> {
        let path = self.path("ipc/input").join(message_file_name());
        let content = json!({"type": "message", "text": text}).to_string();
        write_atomic(&path, content.as_bytes())?;
        // The file is there for the reader since its rename, not since its sync.
        let sent = clock::nanos();
        self.record()?;
        Ok(millis(self.noted(text)?.saturating_sub(sent)))
    }

    /// Resident memory in megabytes of all its processes, without the agent.
    pub(crate) fn resident_megabytes(&self) -> anyhow::Result<f64> {
        let mut kilobytes = 0;
        let mut ids = vec![self.child.id()];
        while let Some(id) = ids.pop() {
            let line = fs::read(format!("/proc/{id}/cmdline"))?;
            let is_agent = line.split(|byte| *byte == 0).any(|word| word == b"agent");
            if is_agent {
                continue;
            }
            let status = fs::read_to_string(format!("/proc/{id}/status"))?;
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let resident = resident.and_then(|text| text.split_whitespace().next());
            kilobytes += resident.and_then(|text| text.parse().ok()).unwrap_or(0);
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
            ids.extend(
                children
                    .split_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
        }
        Ok(f64::from(kilobytes) / 1024.0)
    }

    /// Ends the conversation.
    pub(crate) fn close(mut self) -> anyhow::Result<()> {
        fs::write(self.path("ipc/input/_close"), "")?;
        let mut rest = Vec::new();
        self.output.read_to_end(&mut rest)?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "it ended with {status}");
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn noted(&self, what: &str) -> anyhow::Result<u128> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let notes = fs::read_to_string(self.path("workspace/notes")).unwrap_or_default();
            let times = notes.lines().filter_map(|line| line.split_once(' '));
            if let Some((time, _)) = times.into_iter().find(|(_, text)| *text == what) {
                return Ok(time.parse()?);
            }
            anyhow::ensure!(Instant::now() < deadline, "the agent did not note {what:?}");
            thread::yield_now();
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a duration of seconds fits")]
fn millis(nanos: u128) -> f64 {
    nanos as f64 / 1_000_000.0
}
