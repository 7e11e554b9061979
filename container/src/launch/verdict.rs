//! Whose fault the end of a run was, from its phase and exit codes.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use drawbridge_shared::exit::Exit;

use crate::config::RunSettings;
use crate::conversation::{End, Tally};
use crate::error::{Error, Result};
use crate::process::LogTail;
use crate::runtime::Runtime;

/// Exit codes of `docker run` and `podman run` for failures of their own.
const ENGINE_FAILED: i32 = 125;
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;
/// 128 and the number of the KILL signal.
const KILLED: i32 = 137;

/// How the command ends.
pub(crate) fn of(
    end: End,
    tally: &Tally,
    log: &LogTail,
    runtime: &Runtime,
    settings: &RunSettings,
) -> Result<Exit> {
    let shown = |limit: Option<std::time::Duration>| {
        limit.map_or_else(String::new, |limit| format!(" {} s", limit.as_secs()))
    };
    match end {
        End::Exited(status) => exited(status, tally, log, runtime, settings),
        End::Lingers => Ok(answered(tally)),
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

const fn answered(tally: &Tally) -> Exit {
    if tally.failures == 0 {
        Exit::Success
    } else {
        Exit::AgentFailed
    }
}

fn exited(
    status: ExitStatus,
    tally: &Tally,
    log: &LogTail,
    runtime: &Runtime,
    settings: &RunSettings,
) -> Result<Exit> {
    if status.success() {
        return match tally.answers {
            0 => Err(with_log(
                "the agent ended without an answer",
                log,
                Error::agent,
            )),
            _ => Ok(answered(tally)),
        };
    }
    let has_started = tally.has_started || log.shows_the_runner();
    let code = status.code();
    match (runtime, code) {
        (Runtime::Container(engine, _), Some(ENGINE_FAILED | NOT_EXECUTABLE | NOT_FOUND))
            if !has_started =>
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
            let memory = settings.memory;
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
