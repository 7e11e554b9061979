//! The outcome of a run: its exit code, from its end and its records.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use drawbridge_shared::exit::Exit;

use super::context::RunContext;
use super::monitor::{End, Tally};
use crate::engine::Runtime;
use crate::error::{Error, Result};
use crate::process::LogTail;

/// Exit codes of `docker run` and `podman run` for failures of their own.
const ENGINE_FAILED: i32 = 125;
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;
/// 128 and the number of the KILL signal.
const KILLED: i32 = 137;

/// The end of the command.
pub(super) fn of(end: End, tally: &Tally, log: &LogTail, context: &RunContext<'_>) -> Result<Exit> {
    let settings = &context.settings;
    let shown = |limit: Option<std::time::Duration>| {
        limit.map_or_else(String::new, |limit| format!(" {} s", limit.as_secs()))
    };
    match end {
        End::Exited(status) if status.success() => ended(tally, log),
        End::Exited(status) => failed(status, tally, log, context),
        End::KeepsRunning => answered(tally),
        End::TooLong => {
            let limit = shown(settings.timeout);
            Err(
                Error::new(Exit::TimedOut, format!("the run was stopped after{limit}"))
                    .hint("give it more time with --timeout"),
            )
        }
        End::Silent => {
            let limit = shown(settings.idle_timeout);
            let message = format!("the run was stopped after{limit} without an answer");
            Err(Error::new(Exit::TimedOut, message).hint("give it more time with --idle-timeout"))
        }
        End::Interrupted => Err(Error::new(Exit::Interrupted, "interrupted")),
    }
}

fn answered(tally: &Tally) -> Result<Exit> {
    match tally {
        Tally { lost: 1.., .. } => {
            let lost = tally.lost;
            Err(
                Error::infrastructure(format!("{lost} follow-ups did not reach the agent")).hint(
                    "see the warnings for the reason, and send them again with the same --group",
                ),
            )
        }
        Tally { failures: 0, .. } => Ok(Exit::Success),
        _ => Ok(Exit::AgentFailed),
    }
}

fn ended(tally: &Tally, log: &LogTail) -> Result<Exit> {
    match tally.answers {
        0 => Err(with_log(
            "the agent ended without an answer",
            log,
            Error::agent,
        )),
        _ => answered(tally),
    }
}

fn failed(
    status: ExitStatus,
    tally: &Tally,
    log: &LogTail,
    context: &RunContext<'_>,
) -> Result<Exit> {
    match (&context.runtime, status.code()) {
        (Runtime::Container(engine, _), Some(ENGINE_FAILED | NOT_EXECUTABLE | NOT_FOUND))
            if !tally.reached_agent() && !tally.has_started =>
        {
            let what = format!("{} could not start the container", engine.program());
            Err(with_log(&what, log, Error::not_started).hint("drawbridge doctor"))
        }
        (Runtime::Container(engine, _), Some(ENGINE_FAILED)) => {
            let what = format!("the {} engine failed during the run", engine.program());
            Err(with_log(&what, log, Error::infrastructure).hint("drawbridge doctor"))
        }
        (Runtime::Container(..), Some(KILLED)) => {
            let what = "the container was killed";
            let memory = context.settings.memory;
            Err(with_log(what, log, Error::infrastructure)
                .hint(format!("it may need more --memory than {memory}")))
        }
        // The error record has said what happened.
        (_, Some(1)) if tally.failures > 0 => Ok(Exit::AgentFailed),
        (_, Some(code)) => {
            let what = format!("the runner ended with exit code {code}");
            Err(with_log(&what, log, Error::agent))
        }
        (_, None) => {
            let signal = status.signal().unwrap_or_default();
            let what = format!("the runner was ended by signal {signal}");
            Err(with_log(&what, log, Error::infrastructure))
        }
    }
}

fn with_log(what: &str, log: &LogTail, make: impl FnOnce(String) -> Error) -> Error {
    let error = make(what.to_owned());
    match log.text() {
        text if text.is_empty() => error,
        text => error.caused_by(text),
    }
}
