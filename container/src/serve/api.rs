//! The execution of commands, whichever way they come.

use std::sync::Arc;

use drawbridge_shared::ids::GroupName;
use drawbridge_shared::ipc::HostMessage;
use serde_json::json;

use super::answer::{Accepted, Answer, Closed, Health, Purged, Submitted};
use super::command::{Command, LiveCommand, StoreCommand};
use super::hub::{Hub, Phase, not_live};
use super::prepare::require_runnable;
use super::retry::RetryPolicy;
use super::store::{Filter, Store, Waiting};
use super::submission::{Stage, StoredSubmission, SubmissionId};
use crate::error::{Error, Result};
use crate::requests::Reply;

/// Carries out a command.
///
/// # Errors
/// The command is refused, or cannot be written down.
pub(super) async fn perform(hub: &Arc<Hub>, command: Command) -> Result<Answer> {
    match command {
        Command::Live(command) => perform_live(hub, command).await,
        Command::Store(command) => {
            perform_on_store(&hub.store, command, |requeued| hub.enqueue(requeued)).await
        }
    }
}

async fn perform_live(hub: &Arc<Hub>, command: LiveCommand) -> Result<Answer> {
    match command {
        LiveCommand::Submit(input) => submit(hub, input.get()).await.map(Answer::Submitted),
        LiveCommand::Send { id, group, message } => {
            let sent = send(hub, id, group, message).await;
            sent.map(Answer::Submitted)
        }
        LiveCommand::Interrupt { id } => {
            hub.control(id, |run| run.interrupt())?;
            Ok(Answer::Accepted(Accepted { id }))
        }
        LiveCommand::Answer {
            id,
            request,
            ok,
            text,
        } => {
            let reply = Reply {
                ok,
                text,
                snapshot: None,
            };
            hub.control(id, |run| run.answer(request, reply))?;
            Ok(Answer::Accepted(Accepted { id }))
        }
        LiveCommand::Close { id, now } => close(hub, id, now).await.map(Answer::Closed),
        LiveCommand::Health {} => Ok(Answer::Health(health(hub))),
    }
}

/// Carries out a command on the store alone. A submission that it puts back into
/// the queue goes to `requeue`.
///
/// # Errors
/// The command is refused, or cannot be written down.
pub(crate) async fn perform_on_store(
    store: &Store,
    command: StoreCommand,
    requeue: impl FnOnce(Waiting),
) -> Result<Answer> {
    match command {
        StoreCommand::List {
            stage,
            group,
            after,
        } => {
            let filter = Filter {
                stage,
                group,
                after,
            };
            store.list(filter).await.map(Answer::List)
        }
        StoreCommand::Show { id } => {
            let found = store.find(id).await?;
            found.map(Answer::Submission).ok_or_else(|| unknown(id))
        }
        StoreCommand::DeadLetter { id } => store.dead_letter(id).await.map(Answer::DeadLetter),
        StoreCommand::Retry { id } => {
            requeue(store.requeue(id).await?);
            Ok(Answer::Accepted(Accepted { id }))
        }
        StoreCommand::Purge { id } => purge(store, id).await.map(Answer::Purged),
    }
}

async fn purge(store: &Store, id: Option<SubmissionId>) -> Result<Purged> {
    let purged = store.delete_dead_letters(id).await?;
    if let (Some(id), 0) = (id, purged) {
        return Err(Error::usage(format!(
            "submission {id} is not a dead letter"
        )));
    }
    Ok(Purged { purged })
}

/// Accepts a submission, if it could be run and the queue is not full.
async fn submit(hub: &Arc<Hub>, input: &str) -> Result<Submitted> {
    let stored = StoredSubmission::parse(input.to_owned())?;
    // What could never start is refused now, while the client waits.
    require_runnable(stored.submission(), &hub.setup, &hub.state)?;
    accept(hub, stored).await
}

async fn accept(hub: &Arc<Hub>, stored: StoredSubmission) -> Result<Submitted> {
    if hub.has_reached(Phase::Draining) {
        return Err(Error::not_started("serve is about to end").hint("submit it to the next one"));
    }
    let (group, kind) = (stored.submission().group.clone(), stored.submission().kind);
    if !hub.shared().queue.has_capacity(group.as_ref()) {
        return Err(Error::full("the queue is full").hint("try again when some runs have ended"));
    }
    let RetryPolicy { max_attempts, .. } = hub.setup.retry();
    let recorded = hub.store.submit(stored, max_attempts.get()).await?;
    if recorded.is_new {
        hub.enqueue(Waiting {
            id: recorded.id,
            group,
            kind,
            due: 0,
        });
    }
    Ok(Submitted {
        id: recorded.id,
        new: recorded.is_new,
    })
}

async fn send(
    hub: &Arc<Hub>,
    id: Option<SubmissionId>,
    group: Option<GroupName>,
    message: HostMessage,
) -> Result<Submitted> {
    let target = match (id, &group) {
        (Some(id), None) => Some(id),
        (None, Some(group)) => hub.live_run_of(group),
        _ => {
            return Err(Error::usage("a message goes to a submission or to a group")
                .hint("give one of id and group"));
        }
    };
    if let Some(id) = target
        && hub.store.add_follow_up(id, &message).await?
    {
        if let Some(run) = hub.shared().live.get(&id) {
            run.deliver();
        }
        return Ok(Submitted { id, new: false });
    }
    match (id, group, message) {
        (Some(id), _, _) => Err(not_live(id)),
        (None, Some(group), HostMessage::Message { text, .. }) => {
            let input = json!({ "prompt": text, "group": group }).to_string();
            accept(hub, StoredSubmission::parse(input)?).await
        }
        _ => Err(Error::usage("no run of this group takes messages")
            .hint("only a message with a text begins a new one")),
    }
}

async fn close(hub: &Arc<Hub>, id: SubmissionId, now: bool) -> Result<Closed> {
    // First on disk: what is no longer queued there is not begun.
    if hub.store.withdraw(id).await? {
        hub.shared().queue.remove(id);
        let was = Stage::Queued;
        return Ok(Closed { id, was });
    }
    hub.control(id, |run| {
        run.close();
        if now {
            run.give_up();
        }
        Ok(())
    })?;
    let was = Stage::Running;
    Ok(Closed { id, was })
}

fn health(hub: &Hub) -> Health {
    let draining = hub.has_reached(Phase::Draining);
    let shared = hub.shared();
    Health {
        ok: shared.last_error.is_none(),
        last_error: shared.last_error.clone(),
        running: shared.queue.running(),
        waiting: shared.queue.waiting(),
        draining,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn unknown(id: SubmissionId) -> Error {
    Error::usage(format!("there is no submission {id}"))
}
