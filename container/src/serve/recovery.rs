//! What a `serve` that was killed has left: nothing may be lost, and nothing
//! may run twice at once.

use std::sync::Arc;

use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::RunId;

use super::delivery;
use super::dispatcher::{after, log_failure, sweep_leftovers};
use super::hub::{Hub, Leftover};
use crate::engine::orphans;
use crate::error::Result;
use crate::serve::retry::{Class, Failure, look_first};
use crate::serve::store::{Claim, Ending, Interrupted};

/// Ends the runs of a dead `serve`, settles their attempts, and fills the queue.
///
/// # Errors
/// The state folder or the queue cannot be used.
pub(super) async fn recover(hub: &Arc<Hub>) -> Result<()> {
    let interrupted = hub.store.interrupted().await?;
    orphans::sweep(&hub.state).await?;
    for left in &interrupted {
        // A run is on record before its program starts, so one without a run has
        // reached nobody. Of the others only the agent's own folders could tell
        // more, and those are not to be trusted.
        let failure = failure(left, left.run.is_some());
        note_leftover(hub, left);
        delivery::settle(hub, left.id, left.group.as_ref()).await?;
        let claim = Claim {
            attempt: left.attempt,
            allowed: left.allowed,
            input: String::new(),
        };
        let next = after(hub, &failure, &claim);
        let ending = Ending::Failed(failure.clone(), next);
        hub.store.finish(left.id, left.attempt, &ending).await?;
        log_failure(left.id, left.group.as_ref(), left.attempt, &failure, next);
    }
    if !hub.shared().leftovers.is_empty() {
        let hub = Arc::clone(hub);
        tokio::task::spawn_local(async move { sweep_leftovers(&hub).await });
    }
    for waiting in hub.store.waiting().await? {
        hub.enqueue(waiting);
    }
    Ok(())
}

fn failure(left: &Interrupted, reached_agent: bool) -> Failure {
    let what = if reached_agent {
        "the launcher died while the agent was at work, or about to be"
    } else {
        "the launcher died before the agent had the message"
    };
    Failure {
        class: Class::Infrastructure,
        code: Exit::Infrastructure.code(),
        reached_agent,
        reason: what.to_owned(),
        brief: what.to_owned(),
        hint: reached_agent.then(|| look_first(left.id)),
        retry_after: None,
        log: Vec::new(),
    }
}

fn note_leftover(hub: &Hub, left: &Interrupted) {
    let run: Option<RunId> = left.run.as_deref().and_then(|run| run.parse().ok());
    let Some(run) = run.filter(|run| hub.state.knows(run)) else {
        return;
    };
    hub.shared().leftovers.push(Leftover {
        submission: left.id,
        group: left.group.clone(),
        run,
    });
}
