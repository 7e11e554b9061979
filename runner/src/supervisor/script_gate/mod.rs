//! The shell script that decides whether a scheduled task wakes the agent.
//!
//! The contract is NanoClaw's: the last line of the script's output is a JSON
//! object with a boolean `wakeAgent` and optional `data`. A script that fails
//! is a failure here, not a silent "no": the scheduler of the task has to learn
//! of it. Trying less often, and pausing the task in the end, is the host's
//! part.

use std::io::{self, Write};
use std::time::Duration;

use drawbridge_io::lines::Line;
use drawbridge_shared::json::from_slice_lossy;
use drawbridge_shared::protocol::{RunInput, RunPaths};
use serde::Deserialize;
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::time::timeout;

use crate::process::child::{ChildEvent, ChildSpec, ExitReport, LineChild, StopLadder};
use crate::process::shell::Shell;
use crate::self_command::SelfCommand;

/// Longest run time of a script.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Bytes a script may write to its standard output.
const OUTPUT_LIMIT: usize = 1024 * 1024;
/// The stop of a script that takes too long.
const STOP: StopLadder = StopLadder {
    eof: Duration::ZERO,
    term: Duration::from_secs(1),
};

/// The script's decision about the task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// There is no script to ask.
    NoScript,
    /// Wake the agent with this prompt.
    Wake(String),
    /// There is nothing to do this time.
    Sleep,
}

/// The failure of a script to decide.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScriptError {
    #[error("the task's script cannot be started")]
    Start(#[source] io::Error),
    #[error("the task's script {0}")]
    Failed(String),
    #[error("the task's script was stopped after {0:?}")]
    TimeLimit(Duration),
    #[error("the task's script wrote more than {OUTPUT_LIMIT} bytes")]
    OutputLimit,
    #[error("the task's script wrote nothing; its last line must be JSON with \"wakeAgent\"")]
    Silent,
    #[error("the last line of the task's script is not JSON with a boolean \"wakeAgent\"")]
    NotADecision(#[source] serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LastLine {
    wake_agent: bool,
    #[serde(default)]
    data: Value,
}

/// Asks the script of a scheduled task, if it has one.
///
/// # Errors
/// The script gave no verdict; see [`ScriptError`].
pub(crate) async fn ask(
    self_command: &SelfCommand,
    input: &RunInput,
    paths: &RunPaths,
) -> Result<Decision, ScriptError> {
    ask_within(TIME_LIMIT, self_command, input, paths).await
}

async fn ask_within(
    limit: Duration,
    self_command: &SelfCommand,
    input: &RunInput,
    paths: &RunPaths,
) -> Result<Decision, ScriptError> {
    let script = match &input.script {
        Some(script) if input.is_scheduled_task && !script.is_empty() => script,
        _ => return Ok(Decision::NoScript),
    };
    // A file, because an argument may hold 128 KiB at most. It is gone when the
    // script has ended.
    let mut file = NamedTempFile::new().map_err(ScriptError::Start)?;
    file.write_all(script.as_bytes())
        .map_err(ScriptError::Start)?;
    let shell = Shell::find();
    let mut args = shell.args;
    args.push(file.path().into());
    let spec = ChildSpec {
        program: shell.program,
        args,
        cwd: paths.workspace.clone(),
        env: vec![("HOME".into(), paths.home.clone().into())],
        removed_env: Vec::new(),
    };
    let mut child = LineChild::spawn(self_command, &spec).map_err(ScriptError::Start)?;
    child.close_stdin();
    let Ok(read) = timeout(limit, read_last_line(&mut child)).await else {
        child.stop(STOP).await;
        return Err(ScriptError::TimeLimit(limit));
    };
    let Some((last, report)) = read else {
        child.stop(STOP).await;
        return Err(ScriptError::OutputLimit);
    };
    if !report.status.success() {
        return Err(ScriptError::Failed(
            report.describe("").trim_start().to_owned(),
        ));
    }
    if last.is_empty() {
        return Err(ScriptError::Silent);
    }
    let decision = from_slice_lossy(&last).map_err(ScriptError::NotADecision)?;
    Ok(decide(&decision, &input.prompt))
}

/// The last line that is not blank; `None` when there is too much output.
async fn read_last_line(child: &mut LineChild) -> Option<(Vec<u8>, ExitReport)> {
    let mut last = Vec::new();
    let mut total = 0;
    loop {
        match child.next().await {
            ChildEvent::Exited(report) => return Some((last, report)),
            ChildEvent::Line(Line::TooLong { .. }) => return None,
            ChildEvent::Line(Line::Whole(line)) => {
                total += line.len() + 1;
                if total > OUTPUT_LIMIT {
                    return None;
                }
                if !line.trim_ascii().is_empty() {
                    last = line;
                }
            }
        }
    }
}

fn decide(decision: &LastLine, prompt: &str) -> Decision {
    if !decision.wake_agent {
        return Decision::Sleep;
    }
    // The text is NanoClaw's.
    Decision::Wake(format!(
        "[SCHEDULED TASK]\n\nScript output:\n{:#}\n\nInstructions:\n{prompt}",
        decision.data
    ))
}

#[cfg(test)]
mod tests;
