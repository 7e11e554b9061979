//! The run of a submission, and checks before there is one.

use super::submission::Submission;
use crate::config::{FlagValues, Key, resolve};
use crate::error::Result;
use crate::run::{Request, require_mountable, require_program, responder};
use crate::state::State;

/// The run of a submission, with the configuration as it is at this moment.
pub(super) fn request_of(submission: &Submission, serve: &FlagValues<Key>) -> Result<Request> {
    let (settings, proxy) = resolve(&submission.flags(serve))?;
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
    serve: &FlagValues<Key>,
    state: &State,
) -> Result<()> {
    let (settings, _) = resolve(&submission.flags(serve))?;
    require_program(settings.agent, &submission.program)?;
    // `serve` knows of no main group.
    require_mountable(&settings.mounts, state, false)
}
