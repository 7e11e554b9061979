//! The builtin agent's one tool: a shell command in a process group of its own,
//! with a time limit and bounded output.

mod output;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::time::{Instant, timeout, timeout_at};

use super::reply::ToolCall;
use crate::agent::types::AgentSpec;
use crate::process::child::child_command;
use crate::self_command::SelfCommand;
use output::HeadAndTail;

/// The tool's name.
const NAME: &str = "bash";
/// Time limit when the model gives none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest time limit the model may give.
const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Longest time that output is read after the command itself has ended: a
/// background process may hold the pipe open indefinitely.
const PIPE_GRACE: Duration = Duration::from_millis(300);
/// Longest time for a killed process to disappear.
const KILL_BOUND: Duration = Duration::from_secs(2);

/// The shell that runs commands.
pub(super) struct Shell {
    self_command: SelfCommand,
    shell: crate::process::shell::Shell,
    cwd: PathBuf,
    env: Vec<(OsString, OsString)>,
    removed_env: Vec<&'static str>,
}

/// One command to run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) command: String,
    pub(super) timeout: Duration,
}

/// The result of a command, as the model reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) text: String,
    pub(super) is_error: bool,
}

impl Output {
    pub(super) fn failed(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            is_error: true,
        }
    }
}

/// The tool's definition for the Messages API.
pub(super) fn definition() -> Value {
    json!({
        "name": NAME,
        "description": "Runs a shell command in the working directory and returns its output. \
            Each call is a new shell. Long output is shortened in the middle.",
        "input_schema": {
            "type": "object",
            "properties": {
                "command": {"type": "string", "description": "The command to run."},
                "timeout_seconds": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_TIMEOUT.as_secs(),
                    "description": "Time limit; 120 when absent.",
                },
            },
            "required": ["command"],
        },
    })
}

impl Call {
    /// Reads a call; the error is for the model.
    pub(super) fn parse(call: &ToolCall) -> Result<Self, String> {
        if call.name != NAME {
            return Err(format!("There is no tool {:?}, only {NAME:?}.", call.name));
        }
        let Some(input) = &call.input else {
            return Err("The input did not arrive whole; make it shorter.".to_owned());
        };
        let command = match input["command"].as_str() {
            Some(command) if !command.contains('\0') => command.to_owned(),
            _ => return Err("\"command\" must be a text without NUL.".to_owned()),
        };
        let timeout = match &input["timeout_seconds"] {
            Value::Null => DEFAULT_TIMEOUT,
            seconds => seconds
                .as_u64()
                .map(Duration::from_secs)
                .filter(|limit| !limit.is_zero() && *limit <= MAX_TIMEOUT)
                .ok_or_else(|| {
                    format!(
                        "\"timeout_seconds\" must be 1 to {}.",
                        MAX_TIMEOUT.as_secs()
                    )
                })?,
        };
        Ok(Self { command, timeout })
    }
}

impl Shell {
    /// Finds a shell: bash, or what there is.
    pub(super) fn new(spec: &AgentSpec) -> Self {
        Self {
            self_command: spec.self_command.clone(),
            shell: crate::process::shell::Shell::find(),
            cwd: spec.workspace.clone(),
            env: spec.environment(),
            removed_env: spec.removed_environment(),
        }
    }

    /// Runs a command to its end or its time limit. When the wait is given up,
    /// the command's whole process group is killed.
    pub(super) async fn run(&self, call: &Call) -> Output {
        self.try_run(call)
            .await
            .unwrap_or_else(|error| Output::failed(&format!("The command was not run: {error}")))
    }

    async fn try_run(&self, call: &Call) -> io::Result<Output> {
        let (mut running, mut pipe) = self.start(call)?;
        let mut output = HeadAndTail::default();
        let deadline = Instant::now() + call.timeout;
        let status = tokio::select! {
            status = running.child.wait() => Some(status?),
            // The pipe may end first; then only the command's end is waited for.
            never = read_for_ever(&mut pipe, &mut output) => match never {},
            () = tokio::time::sleep_until(deadline) => None,
        };
        if status.is_none() {
            running.kill().await;
        }
        let grace = Instant::now() + PIPE_GRACE;
        let _ = timeout_at(grace, read_to_end(&mut pipe, &mut output)).await;
        // What the command left in the background goes on until the run ends.
        running.release();
        Ok(match status {
            Some(status) => Output {
                is_error: !status.success(),
                text: output.describe(&crate::process::child::describe(status), status.success()),
            },
            None => Output::failed(&output.describe(
                &format!("killed at its time limit of {:?}", call.timeout),
                false,
            )),
        })
    }

    fn start(&self, call: &Call) -> io::Result<(Running, pipe::Receiver)> {
        // One pipe for both outputs keeps their order.
        let (reader, writer) = io::pipe()?;
        let mut args = self.shell.args.clone();
        args.extend(["-c".into(), call.command.clone().into()]);
        let mut command = child_command(&self.self_command, &self.shell.program, &args);
        command
            .current_dir(&self.cwd)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        for name in &self.removed_env {
            command.env_remove(name);
        }
        let child = command.spawn()?;
        // The command holds the writing ends until it is dropped.
        drop(command);
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let pipe = pipe::Receiver::from_owned_fd(reader.into())?;
        Ok((Running { child, group }, pipe))
    }
}

/// A command that is running; dropping it kills its process group.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    async fn kill(&mut self) {
        self.kill_group();
        // A process that cannot even be killed is reaped by the init process.
        let _ = timeout(KILL_BOUND, self.child.wait()).await;
    }

    fn kill_group(&mut self) {
        if let Some(group) = self.group.take()
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::debug!(%error, "cannot kill a command");
        }
    }

    /// Leaves what remains of the group alone.
    fn release(mut self) {
        self.group = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
    }
}

async fn read_to_end(pipe: &mut pipe::Receiver, output: &mut HeadAndTail) {
    let mut buffer = Vec::with_capacity(16 * 1024);
    while let Ok(1..) = pipe.read_buf(&mut buffer).await {
        output.push(&buffer);
        buffer.clear();
    }
}

async fn read_for_ever(
    pipe: &mut pipe::Receiver,
    output: &mut HeadAndTail,
) -> std::convert::Infallible {
    read_to_end(pipe, output).await;
    std::future::pending().await
}

#[cfg(test)]
mod tests;
