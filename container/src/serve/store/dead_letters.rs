//! Dead letters: submissions that failed for good, with all that is known.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::columns::parse_column;
use super::events::{LifecycleEvent, record_lifecycle};
use super::submissions::{SUMMARY, Summary, summary};
use super::{Store, Waiting, now_ms};
use crate::error::{Error, Result};
use crate::serve::retry::MAX_MANUAL_RETRIES;
use crate::serve::submission::{Stage, SubmissionId};

/// A submission that failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeadLetter {
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// Text of the client, byte for byte.
    pub(crate) input: String,
    /// Number of retries by a person.
    pub(crate) manual_retries: u32,
    /// Every attempt that failed.
    pub(crate) failures: Vec<Failed>,
}

/// One failed attempt of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failed {
    pub(crate) attempt: u32,
    /// Milliseconds since 1970.
    pub(crate) at: i64,
    pub(crate) class: String,
    pub(crate) code: u8,
    pub(crate) reached_agent: bool,
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// The last lines of the runner's log, without secrets.
    pub(crate) log: String,
}

impl Store {
    /// One dead letter with its whole story.
    pub(crate) async fn dead_letter(&self, id: SubmissionId) -> Result<DeadLetter> {
        let found = self
            .call(move |connection| {
                let sql = format!(
                    "SELECT {SUMMARY}, input, manual FROM submissions s \
                     WHERE id = ?1 AND stage = ?2"
                );
                let mut statement = connection.prepare(&sql)?;
                let letter = statement
                    .query_row(params![id, Stage::Dead], |row| {
                        Ok(DeadLetter {
                            summary: summary(row)?,
                            input: row.get(9)?,
                            manual_retries: row.get(10)?,
                            failures: Vec::new(),
                        })
                    })
                    .optional()?;
                let Some(mut letter) = letter else {
                    return Ok(None);
                };
                letter.failures = failures(connection, id)?;
                Ok(Some(letter))
            })
            .await?;
        found.ok_or_else(|| not_dead(id))
    }

    /// Puts a dead letter back into the queue for one attempt more.
    ///
    /// # Errors
    /// The submission is not a dead letter, or was tried again too often already.
    pub(crate) async fn requeue(&self, id: SubmissionId) -> Result<Waiting> {
        self.call(move |connection| {
            let sql = "SELECT manual FROM submissions WHERE id = ?1 AND stage = ?2";
            let mut statement = connection.prepare(sql)?;
            let manual = statement
                .query_row(params![id, Stage::Dead], |row| row.get::<_, u32>(0))
                .optional()?;
            match manual {
                None => Ok(Err(not_dead(id))),
                Some(MAX_MANUAL_RETRIES..) => Ok(Err(tried_too_often(id))),
                Some(_) => requeue(connection, id).map(Ok),
            }
        })
        .await?
    }

    /// Deletes dead letters: one, or all.
    pub(crate) async fn delete_dead_letters(&self, id: Option<SubmissionId>) -> Result<usize> {
        self.call(move |connection| {
            let sql = "DELETE FROM submissions WHERE stage = ?1 AND (?2 IS NULL OR id = ?2)";
            connection.execute(sql, params![Stage::Dead, id])
        })
        .await
    }
}

fn requeue(connection: &Connection, id: SubmissionId) -> rusqlite::Result<Waiting> {
    // One attempt more than there were: the count itself is never reset.
    let sql = "UPDATE submissions SET stage = ?2, manual = manual + 1, allowed = attempt + 1, \
               due = ?3, ended = NULL WHERE id = ?1 RETURNING attempt, grp, kind, due";
    let mut statement = connection.prepare(sql)?;
    let (attempt, waiting) = statement.query_row(params![id, Stage::Queued, now_ms()], |row| {
        let waiting = Waiting {
            id,
            group: parse_column(row, 1)?,
            kind: row.get(2)?,
            due: row.get(3)?,
        };
        Ok((row.get::<_, u32>(0)?, waiting))
    })?;
    record_lifecycle(connection, id, attempt, &LifecycleEvent::Revived)?;
    Ok(waiting)
}

fn failures(connection: &Connection, id: SubmissionId) -> rusqlite::Result<Vec<Failed>> {
    let sql = "SELECT attempt, at, class, code, reached, reason, hint, log FROM failures \
               WHERE submission = ?1 ORDER BY rowid";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([id], |row| {
        Ok(Failed {
            attempt: row.get(0)?,
            at: row.get(1)?,
            class: row.get(2)?,
            code: row.get(3)?,
            reached_agent: row.get(4)?,
            reason: row.get(5)?,
            hint: row.get(6)?,
            log: row.get(7)?,
        })
    })?;
    rows.collect()
}

fn not_dead(id: SubmissionId) -> Error {
    Error::usage(format!("submission {id} is not a dead letter"))
        .hint("`drawbridge dead-letter list` shows those that there are")
}

fn tried_too_often(id: SubmissionId) -> Error {
    Error::usage(format!(
        "dead letter {id} was tried again {MAX_MANUAL_RETRIES} times already"
    ))
    .hint("submit its input anew if it is sound, or purge it")
}
