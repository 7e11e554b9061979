//! What callers can ask of `serve`, whichever way they come.

use std::sync::Arc;

use drawbridge_shared::ids::GroupName;
use drawbridge_shared::ipc::HostMessage;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::hub::{Hub, Phase, not_live};
use super::prepare::require_runnable;
use crate::error::{Context, Error, Result};
use crate::requests::Reply;
use crate::serve::retry::RetryPolicy;
use crate::serve::store::{Filter, Store};
use crate::serve::submission::{Stage, Submission, SubmissionId};

/// A command: an object with one key, its name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(crate) enum Command {
    /// Hands in a [`Submission`], which is kept as it was written.
    Submit(Box<RawValue>),
    /// A message for a live run. One to a group without such a run becomes a
    /// submission.
    Send {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<SubmissionId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<GroupName>,
        message: HostMessage,
    },
    /// Answers what an agent asked for in a `request` event.
    Answer {
        id: SubmissionId,
        /// The request's own id.
        request: String,
        /// Whether it is accepted.
        ok: bool,
        /// The answer to a question, or why it is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// The agent's present turn is to stop.
    Interrupt { id: SubmissionId },
    /// The conversation ends after its present turn, or at once.
    Close {
        id: SubmissionId,
        #[serde(default)]
        now: bool,
    },
    /// Submissions, oldest first.
    List {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<Stage>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<GroupName>,
        #[serde(default)]
        after: i64,
    },
    /// One submission.
    Show { id: SubmissionId },
    /// One dead letter with its input, attempts and log.
    DeadLetter { id: SubmissionId },
    /// Tries a dead letter again.
    Retry { id: SubmissionId },
    /// Forgets a dead letter, or all.
    Purge {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<SubmissionId>,
    },
    /// How `serve` is.
    Health {},
}

impl Command {
    /// Reads a command.
    ///
    /// # Errors
    /// It is not one; the error names what is accepted.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).context(|| Error::usage("the command is not valid"))
    }
}

/// Carries out a command.
///
/// # Errors
/// It is refused, or it cannot be written down.
pub(crate) async fn perform(hub: &Arc<Hub>, command: Command) -> Result<Value> {
    match command {
        Command::Submit(input) => submit(hub, input.get()).await,
        Command::Send { id, group, message } => send(hub, id, group, message).await,
        Command::Interrupt { id } => {
            hub.control(id, |run| run.interrupt())?;
            Ok(json!({ "id": id }))
        }
        Command::Answer {
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
            Ok(json!({ "id": id }))
        }
        Command::Close { id, now } => close(hub, id, now).await,
        Command::Retry { id } => {
            let waiting = hub.store.revive(id).await?;
            hub.enqueue(waiting);
            Ok(json!({ "id": id }))
        }
        Command::Health {} => Ok(health(hub)),
        other => look_up(&hub.store, other).await,
    }
}

/// Carries out a command on the store alone, while no `serve` runs.
///
/// # Errors
/// The command needs a running `serve`, is refused, or cannot be written down.
pub(crate) async fn perform_offline(store: &Store, command: Command) -> Result<Value> {
    match command {
        Command::Retry { id } => {
            store.revive(id).await?;
            Ok(json!({ "id": id }))
        }
        other => look_up(store, other).await,
    }
}

/// The commands that need no live run.
async fn look_up(store: &Store, command: Command) -> Result<Value> {
    match command {
        Command::List {
            stage,
            group,
            after,
        } => {
            let filter = Filter {
                stage,
                group,
                after,
            };
            to_value(store.list(filter).await?)
        }
        Command::Show { id } => match store.find(id).await? {
            Some(summary) => to_value(summary),
            None => Err(unknown(id)),
        },
        Command::DeadLetter { id } => to_value(store.dead_letter(id).await?),
        Command::Purge { id } => {
            let purged = store.purge(id).await?;
            if let (Some(id), 0) = (id, purged) {
                return Err(Error::usage(format!(
                    "submission {id} is not a dead letter"
                )));
            }
            Ok(json!({ "purged": purged }))
        }
        _ => Err(Error::not_started("no `drawbridge serve` runs here").hint("start it first")),
    }
}

fn to_value(value: impl Serialize) -> Result<Value> {
    serde_json::to_value(value).context(|| Error::infrastructure("an answer cannot be written"))
}

/// Accepts a submission, if it could be run and there is room.
async fn submit(hub: &Arc<Hub>, input: &str) -> Result<Value> {
    let submission = Submission::parse(input)?;
    // What could never start is refused now, while somebody listens.
    require_runnable(&submission, &hub.setup, &hub.state)?;
    accept(hub, input.to_owned(), &submission).await
}

async fn accept(hub: &Arc<Hub>, input: String, submission: &Submission) -> Result<Value> {
    if hub.has_reached(Phase::Draining) {
        return Err(Error::not_started("serve is about to end").hint("submit it to the next one"));
    }
    if !hub.shared().queue.has_room(submission.group.as_ref()) {
        return Err(Error::full("the queue is full").hint("try again when some runs have ended"));
    }
    let RetryPolicy { max_attempts, .. } = hub.setup.retry();
    let store = &hub.store;
    let recorded = store.submit(input, submission, max_attempts.get()).await?;
    if recorded.is_new {
        hub.enqueue(crate::serve::store::Waiting {
            id: recorded.id,
            group: submission.group.clone(),
            kind: submission.kind,
            due: 0,
        });
    }
    Ok(json!({ "id": recorded.id, "new": recorded.is_new }))
}

async fn send(
    hub: &Arc<Hub>,
    id: Option<SubmissionId>,
    group: Option<GroupName>,
    message: HostMessage,
) -> Result<Value> {
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
        return Ok(json!({ "id": id, "new": false }));
    }
    match (id, group, message) {
        (Some(id), _, _) => Err(not_live(id)),
        (None, Some(group), HostMessage::Message { text, .. }) => {
            let input = json!({ "prompt": text, "group": group }).to_string();
            let submission = Submission::parse(&input)?;
            accept(hub, input, &submission).await
        }
        _ => Err(Error::usage("no run of this group takes messages")
            .hint("only a message with a text begins a new one")),
    }
}

async fn close(hub: &Arc<Hub>, id: SubmissionId, now: bool) -> Result<Value> {
    // First on disk: what is no longer queued there is not begun.
    if hub.store.withdraw(id).await? {
        hub.shared().queue.remove(id);
        return Ok(json!({ "id": id, "was": Stage::Queued }));
    }
    hub.control(id, |run| {
        run.close();
        if now {
            run.give_up();
        }
        Ok(())
    })?;
    Ok(json!({ "id": id, "was": Stage::Running }))
}

fn health(hub: &Hub) -> Value {
    let shared = hub.shared();
    json!({
        "ok": shared.last_error.is_none(),
        "trouble": shared.last_error,
        "running": shared.queue.running(),
        "waiting": shared.queue.waiting(),
        "draining": hub.has_reached(Phase::Draining),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn unknown(id: SubmissionId) -> Error {
    Error::usage(format!("there is no submission {id}"))
}
