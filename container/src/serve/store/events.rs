//! The event log: everything that happened to submissions, in order.

use drawbridge_shared::ids::RunId;
use rusqlite::{Connection, params};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Store, now_ms};
use crate::error::Result;
use crate::events::{Event, RecordedEvent};
use crate::serve::retry::Class;
use crate::serve::submission::SubmissionId;

/// Most events of one page.
const PAGE: i64 = 500;

/// One entry of the log, as callers get it.
#[derive(Debug, Serialize)]
pub(crate) struct LoggedEvent {
    /// Position in the log; a reader goes on behind the last one it has.
    pub(crate) seq: i64,
    pub(crate) submission: SubmissionId,
    /// Attempt it belongs to; 0 before the first.
    pub(crate) attempt: u32,
    /// Milliseconds since 1970.
    pub(crate) at: i64,
    pub(crate) event: Box<RawValue>,
}

/// Lifecycle event of a submission outside its runs.
#[derive(Debug, Serialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub(crate) enum LifecycleEvent<'a> {
    Queued,
    /// An attempt begins; it counts from here on.
    Attempt,
    /// The attempt failed, and there will be another one.
    Retry {
        class: Class,
        code: u8,
        error: &'a str,
        /// Milliseconds until then.
        after_ms: u64,
    },
    /// It ended with a result.
    Done {
        code: u8,
    },
    /// It failed for good and is a dead letter.
    Dead {
        class: Class,
        code: u8,
        error: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<&'a str>,
    },
    /// A person has it tried again.
    Revived,
    /// So many follow-ups came when the conversation was over.
    TooLate {
        count: usize,
    },
}

/// Writes an event in the transaction that is open.
pub(super) fn log(
    connection: &Connection,
    id: SubmissionId,
    attempt: u32,
    json: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare("INSERT INTO events (submission, attempt, at, json) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id, attempt, now_ms(), json])?;
    Ok(())
}

/// Writes an event in the transaction that is open.
pub(super) fn record_lifecycle(
    connection: &Connection,
    id: SubmissionId,
    attempt: u32,
    event: &LifecycleEvent<'_>,
) -> rusqlite::Result<()> {
    log(connection, id, attempt, &to_json(event)?)
}

fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

impl Store {
    /// Writes down an event of a run, and what it says about the attempt.
    pub(crate) async fn append(
        &self,
        id: SubmissionId,
        attempt: u32,
        recorded: &RecordedEvent,
    ) -> Result<()> {
        let RecordedEvent { event, json } = recorded;
        let json = json.clone();
        let run = match event {
            Event::Start { run, .. } => Some(run.clone()),
            _ => None,
        };
        self.call(move |connection| {
            log(connection, id, attempt, &json)?;
            if let Some(run) = &run {
                note_run(connection, id, run)?;
            }
            Ok(())
        })
        .await
    }

    /// The events behind position `since`, of one submission or of all.
    pub(crate) async fn events(
        &self,
        since: i64,
        of: Option<SubmissionId>,
    ) -> Result<Vec<LoggedEvent>> {
        self.call(move |connection| {
            // Two statements, so that each can use its index.
            let (sql, of) = match of {
                Some(id) => (
                    "SELECT seq, submission, attempt, at, json FROM events \
                     WHERE submission = ?2 AND seq > ?1 ORDER BY seq LIMIT ?3",
                    id,
                ),
                None => (
                    "SELECT seq, submission, attempt, at, json FROM events \
                     WHERE seq > ?1 AND ?2 = 0 ORDER BY seq LIMIT ?3",
                    SubmissionId(0),
                ),
            };
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map(params![since, of, PAGE], |row| {
                let json: String = row.get(4)?;
                Ok(LoggedEvent {
                    seq: row.get(0)?,
                    submission: row.get(1)?,
                    attempt: row.get(2)?,
                    at: row.get(3)?,
                    event: RawValue::from_string(json).map_err(|error| {
                        let kind = rusqlite::types::Type::Text;
                        rusqlite::Error::FromSqlConversionFailure(4, kind, error.into())
                    })?,
                })
            })?;
            rows.collect()
        })
        .await
    }

    /// The position of the latest event.
    pub(crate) async fn last_event(&self) -> Result<i64> {
        self.call(|connection| {
            let sql = "SELECT coalesce(max(seq), 0) FROM events";
            connection.query_row(sql, [], |row| row.get(0))
        })
        .await
    }
}

fn note_run(connection: &Connection, id: SubmissionId, run: &RunId) -> rusqlite::Result<()> {
    let sql = "UPDATE submissions SET run = ?2 WHERE id = ?1";
    connection
        .prepare(sql)?
        .execute(params![id, run.as_str()])?;
    Ok(())
}
