//! Cleaning up after launchers that were killed.

use std::io;

use drawbridge_shared::ids::RunId;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::engine::Engine;
use crate::error::Result;
use crate::state::{DeadRun, ProcessRef, State};

/// Ends what dead runs have left running, and removes their folders.
///
/// Returns how many there were. A run that cannot be ended keeps its folder, so
/// that the next command tries again.
pub(crate) async fn clean_up(state: &State) -> Result<usize> {
    let mut count = 0;
    for run in state.dead_runs()? {
        match end(&run).await {
            Ok(()) => {
                tracing::info!("removed what was left of {}", run.id);
                run.remove();
                count += 1;
            }
            Err(error) => tracing::warn!("{} is left for later: {}", run.id, error.one_line()),
        }
    }
    Ok(count)
}

async fn end(run: &DeadRun) -> Result<()> {
    if let Some(process) = run.record.process {
        kill(process);
    }
    let engine = run.record.engine.as_deref().and_then(Engine::named);
    match engine {
        Some(engine) => engine.wait_until_gone(&run.id).await,
        None => Ok(()),
    }
}

fn kill(process: ProcessRef) {
    if !process.is_alive() {
        return;
    }
    if let Some(group) = Pid::from_raw(process.pid)
        && let Err(error) = kill_process_group(group, Signal::KILL)
    {
        let error = io::Error::from(error);
        tracing::warn!("cannot kill process group {}: {error}", process.pid);
    }
}

/// Removes containers and networks of this installation whose run nobody knows
/// any more.
///
/// Returns how many there were.
pub(crate) async fn remove_unknown(state: &State) -> usize {
    let mut count = 0;
    for engine in Engine::ALL {
        // An engine that is not there has no containers of ours.
        let runs = engine.labelled_runs(&state.install().to_string()).await;
        for run in runs.unwrap_or_default() {
            count += usize::from(remove(engine, &run, state).await);
        }
    }
    count
}

async fn remove(engine: Engine, run: &RunId, state: &State) -> bool {
    if state.knows(run) {
        return false;
    }
    let removed = engine.wait_until_gone(run).await;
    removed
        .inspect_err(|error| tracing::warn!("{}", error.one_line()))
        .is_ok()
}
