//! Follow-ups: messages for a run that is under way.

use drawbridge_shared::ids::GroupName;
use drawbridge_shared::ipc::HostMessage;
use rusqlite::{Connection, OptionalExtension, params};

use super::columns::parse_column;
use super::events::{LifecycleEvent, record_lifecycle};
use super::submissions::insert;
use super::{Store, Waiting, now_ms};
use crate::error::Result;
use crate::serve::submission::{Kind, Stage, Submission, SubmissionId};

/// A follow-up that its run has not taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitingFollowUp {
    pub(crate) id: i64,
    /// The message, as the caller wrote it.
    pub(crate) json: String,
    /// The file that it was made ready in, if it came that far.
    pub(crate) file: Option<String>,
}

impl Store {
    /// Accepts a follow-up for a submission; false when that is over.
    pub(crate) async fn add_follow_up(
        &self,
        id: SubmissionId,
        message: &HostMessage,
    ) -> Result<bool> {
        let json = serde_json::to_string(message).unwrap_or_default();
        self.call(move |connection| {
            let sql = "INSERT INTO follow_ups (submission, json) SELECT id, ?2 FROM submissions \
                       WHERE id = ?1 AND stage IN (?3, ?4)";
            let values = params![id, json, Stage::Queued, Stage::Running];
            Ok(connection.prepare(sql)?.execute(values)? == 1)
        })
        .await
    }

    /// The follow-ups that a run has to take, in order.
    pub(crate) async fn undelivered(&self, id: SubmissionId) -> Result<Vec<WaitingFollowUp>> {
        self.call(move |connection| undelivered(connection, id))
            .await
    }

    /// The follow-up is ready in this file of the group's outbox, and may be handed
    /// over from now on; or nothing is ready any more.
    pub(crate) async fn ready(&self, follow_up: i64, file: Option<String>) -> Result<()> {
        self.call(move |connection| {
            let sql = "UPDATE follow_ups SET file = ?2 WHERE id = ?1";
            connection.prepare(sql)?.execute(params![follow_up, file])?;
            Ok(())
        })
        .await
    }

    /// The run has put the follow-up into the agent's folder.
    pub(crate) async fn delivered(&self, follow_up: i64) -> Result<()> {
        self.call(move |connection| {
            let sql = "UPDATE follow_ups SET delivered = 1 WHERE id = ?1";
            connection.prepare(sql)?.execute([follow_up])?;
            Ok(())
        })
        .await
    }
}

fn undelivered(
    connection: &Connection,
    id: SubmissionId,
) -> rusqlite::Result<Vec<WaitingFollowUp>> {
    let sql =
        "SELECT id, json, file FROM follow_ups WHERE submission = ?1 AND delivered = 0 ORDER BY id";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([id], |row| {
        Ok(WaitingFollowUp {
            id: row.get(0)?,
            json: row.get(1)?,
            file: row.get(2)?,
        })
    })?;
    rows.collect()
}

/// Requeues undelivered messages. Those of a run without a group are gone with its folder; a group's
/// input folder still holds what its agent did not take.
pub(super) fn deliver_again(connection: &Connection, id: SubmissionId) -> rusqlite::Result<()> {
    let sql = "UPDATE follow_ups SET delivered = 0 WHERE submission = ?1 AND EXISTS \
               (SELECT 1 FROM submissions WHERE id = ?1 AND grp IS NULL)";
    connection.prepare(sql)?.execute([id])?;
    Ok(())
}

/// Makes one submission of all messages that came too late for their run, for
/// the same group and with the same settings.
pub(super) fn requeue_undelivered(
    connection: &Connection,
    id: SubmissionId,
) -> rusqlite::Result<Option<Waiting>> {
    let left = undelivered(connection, id)?;
    let texts: Vec<String> = left.iter().filter_map(|left| text(&left.json)).collect();
    if texts.is_empty() {
        return Ok(None);
    }
    let sql = "SELECT grp, input, allowed, attempt FROM submissions WHERE id = ?1";
    let mut statement = connection.prepare(sql)?;
    let origin = statement
        .query_row([id], |row| {
            let group: Option<GroupName> = parse_column(row, 0)?;
            let (input, allowed): (String, u32) = (row.get(1)?, row.get(2)?);
            Ok((group, input, allowed, row.get::<_, u32>(3)?))
        })
        .optional()?;
    let Some((group, input, allowed, attempt)) = origin else {
        return Ok(None);
    };
    if group.is_none() {
        // The conversation they belong to is gone with its folder.
        let count = texts.len();
        record_lifecycle(connection, id, attempt, &LifecycleEvent::TooLate { count })?;
        return Ok(None);
    }
    let Ok(origin) = serde_json::from_str::<Submission>(&input) else {
        return Ok(None);
    };
    let next = Submission {
        prompt: texts.join("\n"),
        kind: Kind::Message,
        key: None,
        ..origin
    };
    let input = serde_json::to_string(&next).unwrap_or_default();
    let next = insert(connection, None, group.as_ref(), next.kind, &input, allowed)?;
    let sql = "UPDATE follow_ups SET delivered = 1 WHERE submission = ?1 AND delivered = 0";
    connection.execute(sql, [id])?;
    Ok(Some(Waiting {
        id: next,
        group,
        kind: Kind::Message,
        due: now_ms(),
    }))
}

/// A message as text; its attachments are in the group's folder.
fn text(json: &str) -> Option<String> {
    let Ok(HostMessage::Message { text, attachments }) = serde_json::from_str(json) else {
        return None;
    };
    let names = attachments.iter().map(|file| file.path.display());
    let lines = names.map(|name| format!("\n[Attached file: {name}]"));
    Some(text + &lines.collect::<String>())
}
