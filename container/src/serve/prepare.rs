//! The run of a submission, and checks before there is one.

use super::settings::Setup;
use super::submission::Submission;
use crate::config::{FlagValues, Key, resolve};
use crate::error::{Error, Result};
use crate::run::{Request, require_mountable, require_program, responder};
use crate::state::State;

/// The run of a submission, with the configuration as it is at this moment.
pub(super) fn request_of(submission: &Submission, setup: &Setup) -> Result<Request> {
    let (settings, proxy) = resolve(&flags(submission, setup)?)?;
    require_program(settings.agent, &submission.program)?;
    Ok(Request {
        responder: responder(settings.on_request.as_deref(), true)?,
        prompt: submission.prompt.clone(),
        group: submission.group.clone(),
        program: submission.program.clone(),
        ..Request::new(settings, proxy?)
    })
}

/// Refuses what no run could be started with, before there is one.
pub(super) fn require_startable(serve: &FlagValues<Key>) -> Result<()> {
    let (settings, credentials) = resolve(serve)?;
    responder(settings.on_request.as_deref(), true)?;
    credentials.map(drop)
}

/// Refuses what could never start, whatever the engine and the network do.
pub(super) fn require_runnable(
    submission: &Submission,
    setup: &Setup,
    state: &State,
) -> Result<()> {
    let (settings, _) = resolve(&flags(submission, setup)?)?;
    require_program(settings.agent, &submission.program)?;
    // `serve` knows of no main group.
    require_mountable(&settings.mounts, state, false)
}

/// The settings of a submission's run.
fn flags(submission: &Submission, setup: &Setup) -> Result<FlagValues<Key>> {
    if !submission.agent_args.is_empty() && !setup.allows_agent_args() {
        let text = "--agent-arg: submissions may not add arguments to an agent's command line";
        return Err(Error::usage(text).hint("start `drawbridge serve` with --agent-args"));
    }
    Ok(submission.flags(setup.runs()))
}
