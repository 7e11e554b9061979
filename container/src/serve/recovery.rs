//! Recovery after a `serve` that was killed: nothing may be lost, and nothing
//! may run twice at once.

use std::sync::Arc;

use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::RunId;

use super::delivery;
use super::dispatcher::{log_failure, next_step, remove_orphans};
use super::hub::{Hub, OrphanRun};
use crate::engine::orphans;
use crate::error::Result;
use crate::serve::retry::{Class, Failure, inspect_hint};
use crate::serve::store::{Ending, Interrupted};

/// Ends the runs of a dead `serve`, settles their attempts, and fills the queue.
///
/// # Errors
/// The state folder or the queue cannot be used.
pub(super) async fn recover(hub: &Arc<Hub>) -> Result<()> {
    let interrupted = hub.store.interrupted().await?;
    orphans::clean_up(&hub.state).await?;
    for left in &interrupted {
        // A run is on record before its program starts, so one without a run has
        // reached nobody. Of the others only the agent's own folders could tell
        // more, and those are not to be trusted.
        let failure = failure(left, left.run.is_some());
        record_orphan(hub, left);
        delivery::reconcile(hub, left.id, left.group.as_ref()).await?;
        let next = next_step(hub, &failure, left.attempt, left.allowed);
        let ending = Ending::Failed(failure.clone(), next);
        hub.store.finish(left.id, left.attempt, &ending).await?;
        log_failure(left.id, left.group.as_ref(), left.attempt, &failure, next);
    }
    if !hub.shared().orphans.is_empty() {
        let hub = Arc::clone(hub);
        tokio::task::spawn_local(async move { remove_orphans(&hub).await });
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
        summary: what.to_owned(),
        hint: reached_agent.then(|| inspect_hint(left.id)),
        retry_after: None,
        log: Vec::new(),
    }
}

fn record_orphan(hub: &Hub, left: &Interrupted) {
    let run: Option<RunId> = left.run.as_deref().and_then(|run| run.parse().ok());
    if let Some(run) = run {
        hub.record_orphan(OrphanRun {
            submission: left.id,
            group: left.group.clone(),
            run,
        });
    }
}
