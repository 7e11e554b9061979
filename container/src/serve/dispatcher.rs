//! Starts what is next, records how it ended, and brings all to an end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use drawbridge_io::signals::Signals;
use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::GroupName;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};

use super::attempt::{Attempt, Observed};
use super::delivery;
use super::hub::{Hub, OrphanRun, Phase};
use super::run_handle::{RunHandle, RunInbox};
use crate::engine::orphans;
use crate::error::{Error, Result};
use crate::serve::retry::{Failure, Next};
use crate::serve::store::{Ending, Waiting, now_ms};
use crate::serve::submission::SubmissionId;
use crate::terminal::output;

/// Pause before looking again whether a group is free that another program
/// holds, or whether a run is gone that could not be ended.
const BUSY_PAUSE: Duration = Duration::from_secs(2);
/// Interval at which old results are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);
/// Longest time in which stopped runs have to end: their programs have ten seconds,
/// and their containers as much again.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// Far enough away to mean never.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// Runs what is in the queue until a signal or [`Phase::Draining`] asks for the
/// end, and then lets what runs come to its own.
///
/// # Errors
/// What happened cannot be written down.
pub(super) async fn dispatch(hub: &Arc<Hub>, signals: &mut Signals) -> Result<Exit> {
    let mut attempts = JoinSet::new();
    let mut prune_at = Instant::now();
    loop {
        while let Some(id) = next(hub) {
            attempts.spawn_local(run_submission(Arc::clone(hub), id));
        }
        let due = hub.shared().queue.next_due();
        let due = due.unwrap_or_else(|| Instant::now() + NEVER);
        tokio::select! {
            Some(done) = attempts.join_next() => if let Err(error) = attempt_ended(done) {
                stop_all(hub);
                // The first failure is the cause; those of the end follow from it.
                let _ = drain(hub, signals, attempts).await;
                return Err(error);
            },
            () = hub.changed.notified() => {}
            () = sleep_until(due.into()), if can_write(hub) => {}
            () = sleep_until(prune_at.into()) => {
                prune(hub).await;
                prune_at = Instant::now() + PRUNE_INTERVAL;
            }
            () = hub.reached(Phase::Draining) => break,
            _ = signals.next() => break,
        }
    }
    hub.advance_to(Phase::Draining);
    drain(hub, signals, attempts).await
}

/// An attempt's own failure to be recorded; a task that broke is one too.
fn attempt_ended(done: std::result::Result<Result<()>, JoinError>) -> Result<()> {
    done.unwrap_or_else(|cause| {
        Err(Error::infrastructure("a task of serve failed").caused_by(cause))
    })
}

/// Ends all live runs. Of what cannot be written down then, the next start
/// finds the traces.
fn stop_all(hub: &Hub) {
    for run in hub.shared().live.values() {
        run.stop();
    }
    hub.advance_to(Phase::Stopping);
}

fn next(hub: &Hub) -> Option<SubmissionId> {
    let mut shared = hub.shared();
    if shared.last_error.is_some() {
        return None;
    }
    shared.queue.take(Instant::now())
}

fn can_write(hub: &Hub) -> bool {
    hub.shared().last_error.is_none()
}

async fn prune(hub: &Hub) {
    let keep = i64::try_from(hub.setup.keep().as_millis()).unwrap_or(i64::MAX);
    if let Err(error) = hub.store.prune(now_ms().saturating_sub(keep)).await {
        tracing::warn!("old results stay: {}", error.one_line());
    }
}

/// Asks all runs to end, and ends those that do not in time. A second signal
/// is the end of the patience.
async fn drain(
    hub: &Hub,
    signals: &mut Signals,
    mut attempts: JoinSet<Result<()>>,
) -> Result<Exit> {
    let count = hub.shared().live.len();
    if count > 0 {
        let patience = hub.setup.drain().as_secs();
        output::note(&format!(
            "waiting for {count} runs to end, {patience} s at most; another signal ends them"
        ));
    }
    for run in hub.shared().live.values() {
        run.close();
    }
    let rest = async |attempts: &mut JoinSet<Result<()>>| {
        let mut ended = Ok(());
        while let Some(done) = attempts.join_next().await {
            ended = ended.and_then(|()| attempt_ended(done));
        }
        ended
    };
    tokio::select! {
        ended = rest(&mut attempts) => return ended.map(|()| Exit::Success),
        () = sleep(hub.setup.drain()) => {}
        _ = signals.next() => {}
    }
    stop_all(hub);
    match timeout(STOP_PATIENCE, rest(&mut attempts)).await {
        Ok(ended) => ended.map(|()| Exit::Interrupted),
        Err(_) => Ok(Exit::Interrupted),
    }
}

/// Runs one submission that has its turn.
async fn run_submission(hub: Arc<Hub>, id: SubmissionId) -> Result<()> {
    let done = attempt(&hub, id).await;
    hub.shared().queue.finish(id);
    if let Ok(Some(next)) = &done {
        hub.enqueue(next.clone());
    }
    hub.changed.notify_one();
    done.map(|_| ())
}

/// Makes an attempt, and returns what has to wait for another turn after it.
async fn attempt(hub: &Arc<Hub>, id: SubmissionId) -> Result<Option<Waiting>> {
    let Some(summary) = hub.retry_until_ok(|| hub.store.find(id)).await? else {
        return Ok(None);
    };
    let (group, kind) = (summary.group, summary.kind);
    let again = |after: Duration| Waiting {
        id,
        group: group.clone(),
        kind,
        due: due_in(after),
    };
    let is_blocked = match &group {
        Some(name) => hub.state.is_in_use(name),
        None => false,
    };
    if is_blocked || hub.is_blocked_by_orphan(id, group.as_ref()) {
        // It is nobody's failure, so it counts for nothing.
        return Ok(Some(again(BUSY_PAUSE)));
    }
    // Registered before it is claimed, so that a follow-up finds one or the other.
    let (handle, inbox) = RunHandle::new(group.clone(), kind);
    hub.shared().live.insert(id, handle);
    if hub.has_reached(Phase::Draining) {
        // It stays in the queue, which the next `serve` reads.
        hub.shared().live.remove(&id);
        return Ok(None);
    }
    let done = claimed(hub, id, inbox).await;
    hub.shared().live.remove(&id);
    Ok(match done? {
        Some((Next::Again(after), _)) => Some(again(after)),
        Some((Next::GiveUp, handed_on)) => handed_on,
        None => None,
    })
}

async fn claimed(
    hub: &Arc<Hub>,
    id: SubmissionId,
    inbox: RunInbox,
) -> Result<Option<(Next, Option<Waiting>)>> {
    let Some(claim) = hub.retry_until_ok(|| hub.store.claim(id)).await? else {
        return Ok(None);
    };
    let attempt = Attempt {
        hub: Arc::clone(hub),
        id,
        number: claim.attempt,
    };
    let group = inbox.group.clone();
    let (ended, observed) = match claim.submission {
        Ok(submission) => attempt.run(&submission, inbox).await?,
        Err(error) => (Err(error), Observed::default()),
    };
    record_orphan(hub, id, group.as_ref(), &observed);
    delivery::reconcile(hub, id, group.as_ref()).await?;
    let is_given_up = is_given_up(hub, id);
    let ending = match observed.failure(id, &ended) {
        None => Ending::Done(Exit::Success),
        Some(_) if is_given_up => Ending::Done(Exit::Interrupted),
        Some(failure) => {
            let next = next_step(hub, &failure, claim.attempt, claim.allowed);
            Ending::Failed(failure, next)
        }
    };
    let store = &hub.store;
    let handed_on = hub
        .retry_until_ok(|| store.finish(id, claim.attempt, &ending))
        .await?;
    let next = match ending {
        Ending::Failed(failure, next) => {
            log_failure(id, group.as_ref(), claim.attempt, &failure, next);
            next
        }
        Ending::Done(_) => Next::GiveUp,
    };
    Ok(Some((next, handed_on)))
}

fn is_given_up(hub: &Hub, id: SubmissionId) -> bool {
    let shared = hub.shared();
    shared.live.get(&id).is_some_and(RunHandle::is_given_up)
}

/// Says in the log that an attempt failed, and what comes of it.
pub(super) fn log_failure(
    id: SubmissionId,
    group: Option<&GroupName>,
    attempt: u32,
    failure: &Failure,
    next: Next,
) {
    let of_group = group.map_or_else(String::new, |group| format!(" of group {group}"));
    let what = match next {
        Next::Again(_) => "is tried again",
        Next::GiveUp => "is a dead letter",
    };
    let (class, code, summary) = (failure.class.name(), failure.code, &failure.summary);
    tracing::warn!(
        "submission {id}{of_group} {what} after attempt {attempt}: {class}, exit code {code}: {summary}"
    );
}

/// The next step after a failure of attempt number `attempt` of `allowed`.
pub(super) fn next_step(hub: &Hub, failure: &Failure, attempt: u32, allowed: u32) -> Next {
    let random = random().unwrap_or(1.0);
    hub.setup.retry().after(failure, attempt, allowed, random)
}

/// A number between 0 and 1.
fn random() -> Option<f64> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).ok()?;
    Some(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}

/// Records a run that could not be ended, and starts to remove it.
fn record_orphan(hub: &Arc<Hub>, id: SubmissionId, group: Option<&GroupName>, observed: &Observed) {
    let Some(run) = observed.run.clone() else {
        return;
    };
    let orphan = OrphanRun {
        submission: id,
        group: group.cloned(),
        run,
    };
    if hub.record_orphan(orphan) {
        let hub = Arc::clone(hub);
        tokio::task::spawn_local(async move { remove_orphans(&hub).await });
    }
}

/// Removes orphans until none is left.
pub(super) async fn remove_orphans(hub: &Hub) {
    loop {
        if let Err(error) = orphans::clean_up(&hub.state).await {
            tracing::warn!("{}", error.one_line());
        }
        if hub.drop_removed_orphans() {
            return;
        }
        tokio::select! {
            () = sleep(BUSY_PAUSE) => {}
            () = hub.reached(Phase::Stopping) => return,
        }
    }
}

fn due_in(after: Duration) -> i64 {
    let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    now_ms().saturating_add_unsigned(millis)
}
