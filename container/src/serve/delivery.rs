//! Follow-ups, from the store to the agent, each once.
//!
//! A message is made ready in the group's outbox, then the store knows that it
//! is, then it is moved to the agent in one step, and then the store knows that
//! too. Whatever dies in between: what is ready by the store and no longer in the
//! outbox was handed over, even if the agent has long removed it.

use drawbridge_shared::ids::GroupName;
use drawbridge_shared::ipc::{HostMessage, message_file_name};
use tokio::sync::mpsc;

use super::hub::Hub;
use crate::error::Result;
use crate::run::RunControl;
use crate::serve::store::WaitingFollowUp;
use crate::serve::submission::SubmissionId;
use crate::state::Outbox;

/// The run takes no more inputs, or the store cannot be used.
#[derive(Debug)]
pub(super) struct RunEnded;

/// Hands over what waits for a run, and says whether that was all of it. What
/// cannot be handed over goes on waiting, and so does what is behind it.
pub(super) async fn deliver(
    hub: &Hub,
    id: SubmissionId,
    group: Option<&GroupName>,
    run: &mpsc::Sender<RunControl>,
) -> Result<bool, RunEnded> {
    let waiting = hub.retry_until_ok(|| hub.store.undelivered(id)).await;
    for follow_up in waiting.map_err(|_| RunEnded)? {
        let is_done = match (serde_json::from_str(&follow_up.json), group) {
            (Ok(message), Some(group)) => {
                let outbox = Outbox::of(&hub.state, group);
                hand_over(hub, &outbox, &follow_up, message, run).await?
            }
            // Its folder is gone with the run, and nothing can come twice.
            (Ok(message), None) => {
                send_and_wait(run, RunControl::Message(message)).await?;
                true
            }
            (Err(error), _) => {
                send_and_wait(run, RunControl::Invalid(error.to_string())).await?;
                true
            }
        };
        if !is_done {
            return Ok(false);
        }
        let noted = hub
            .retry_until_ok(|| hub.store.delivered(follow_up.id))
            .await;
        noted.map_err(|_| RunEnded)?;
    }
    Ok(true)
}

/// Whether it was handed over.
async fn hand_over(
    hub: &Hub,
    outbox: &Outbox,
    follow_up: &WaitingFollowUp,
    message: HostMessage,
    run: &mpsc::Sender<RunControl>,
) -> Result<bool, RunEnded> {
    let file = match &follow_up.file {
        // It was ready at an earlier try, and may have gone unseen.
        Some(file) if outbox.handed_over(file) => return Ok(true),
        Some(file) if outbox.has(file) => file.clone(),
        _ => {
            let file = message_file_name();
            let prepare = RunControl::Prepare {
                file: file.clone(),
                message,
            };
            send_and_wait(run, prepare).await?;
            if !outbox.has(&file) {
                return Ok(false);
            }
            let ready = hub.retry_until_ok(|| hub.store.ready(follow_up.id, Some(file.clone())));
            ready.await.map_err(|_| RunEnded)?;
            file
        }
    };
    send_and_wait(run, RunControl::HandOver { file: file.clone() }).await?;
    Ok(outbox.handed_over(&file))
}

/// Tells the run something and waits until it was done.
async fn send_and_wait(run: &mpsc::Sender<RunControl>, input: RunControl) -> Result<(), RunEnded> {
    run.send(input).await.map_err(|_| RunEnded)?;
    // The channel holds one thing, and the run does what it takes at once, on this
    // thread: with room again, it is done.
    let done = run.reserve().await.map_err(|_| RunEnded)?;
    drop(done);
    Ok(())
}

/// Finds out, at the end of an attempt, what of that which was ready its agent
/// was given. Nothing may be in the outbox when another run begins.
pub(super) async fn reconcile(
    hub: &Hub,
    id: SubmissionId,
    group: Option<&GroupName>,
) -> Result<()> {
    let Some(group) = group else {
        return Ok(());
    };
    let outbox = Outbox::of(&hub.state, group);
    for waiting in hub.retry_until_ok(|| hub.store.undelivered(id)).await? {
        let Some(file) = &waiting.file else {
            continue;
        };
        if outbox.handed_over(file) {
            hub.retry_until_ok(|| hub.store.delivered(waiting.id))
                .await?;
        } else {
            // First here: without its file it would count as handed over.
            hub.retry_until_ok(|| hub.store.ready(waiting.id, None))
                .await?;
        }
    }
    if let Err(error) = outbox.clear() {
        tracing::warn!("messages stay in the outbox of group {group}: {error}");
    }
    Ok(())
}
