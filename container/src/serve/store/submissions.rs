//! Submissions: from accepted to their one end, a result or a dead letter.

use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::GroupName;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::columns::parse_column;
use super::events::{LifecycleEvent, record_lifecycle};
use super::{Store, follow_ups, now_ms};
use crate::error::Result;
use crate::serve::retry::{Failure, Next};
use crate::serve::submission::{Kind, Stage, StoredSubmission, Submission, SubmissionId};

/// Most submissions of one list.
const LIST: usize = 1000;

/// A submission that was accepted, now or before under the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) id: SubmissionId,
    pub(crate) is_new: bool,
}

/// A submission that waits, as the queue needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) id: SubmissionId,
    pub(crate) group: Option<GroupName>,
    pub(crate) kind: Kind,
    /// Milliseconds since 1970.
    pub(crate) due: i64,
}

/// An attempt that has begun and is counted.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) attempt: u32,
    /// Attempts that the submission may have.
    pub(crate) allowed: u32,
    /// The submission. Another version of this program may have accepted it, for
    /// which it was valid.
    pub(crate) submission: Result<Submission>,
}

/// An attempt that was under way when its launcher died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interrupted {
    pub(crate) id: SubmissionId,
    pub(crate) group: Option<GroupName>,
    pub(crate) attempt: u32,
    pub(crate) allowed: u32,
    /// Its run, if it came that far.
    pub(crate) run: Option<String>,
}

/// End of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a result.
    Done(Exit),
    /// Not well; this is what comes next.
    Failed(Failure, Next),
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    pub(crate) id: SubmissionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<GroupName>,
    pub(crate) kind: Kind,
    pub(crate) stage: Stage,
    pub(crate) attempt: u32,
    /// Milliseconds since 1970.
    pub(crate) created: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<i64>,
    /// Why the latest attempt failed; nothing when the submission is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// Which submissions to list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) stage: Option<Stage>,
    pub(crate) group: Option<GroupName>,
    /// Only those with larger numbers.
    pub(crate) after: i64,
}

impl Store {
    /// Accepts a submission. One whose key is known is the earlier one.
    pub(crate) async fn submit(&self, stored: StoredSubmission, allowed: u32) -> Result<Recorded> {
        self.call(move |connection| {
            let Submission {
                key, group, kind, ..
            } = stored.submission();
            if let Some(key) = key {
                let sql = "SELECT id FROM submissions WHERE key = ?1";
                let known = connection.prepare(sql)?.query_row([key], |row| row.get(0));
                if let Some(id) = known.optional()? {
                    return Ok(Recorded { id, is_new: false });
                }
            }
            let id = insert(
                connection,
                key.as_deref(),
                group.as_ref(),
                *kind,
                stored.text(),
                allowed,
            )?;
            Ok(Recorded { id, is_new: true })
        })
        .await
    }

    /// All that wait, in the order in which they came.
    pub(crate) async fn waiting(&self) -> Result<Vec<Waiting>> {
        self.call(|connection| {
            // What was never tried waits for no time, whatever the clock says by now.
            let sql = "SELECT id, grp, kind, iif(attempt = 0, 0, due) FROM submissions \
                       WHERE stage = ?1 ORDER BY id";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([Stage::Queued], |row| {
                Ok(Waiting {
                    id: row.get(0)?,
                    group: parse_column(row, 1)?,
                    kind: row.get(2)?,
                    due: row.get(3)?,
                })
            })?;
            rows.collect()
        })
        .await
    }

    /// Begins an attempt, which is counted before anything is started. `None`
    /// when the submission does not wait any more.
    pub(crate) async fn claim(&self, id: SubmissionId) -> Result<Option<Claim>> {
        self.call(move |connection| {
            let sql = "UPDATE submissions SET stage = ?2, attempt = attempt + 1, run = NULL \
                       WHERE id = ?1 AND stage = ?3 \
                       RETURNING attempt, allowed, input";
            let mut statement = connection.prepare(sql)?;
            let claim = statement
                .query_row(params![id, Stage::Running, Stage::Queued], |row| {
                    Ok(Claim {
                        attempt: row.get(0)?,
                        allowed: row.get(1)?,
                        submission: Submission::parse(&row.get::<_, String>(2)?),
                    })
                })
                .optional()?;
            if let Some(claim) = &claim {
                record_lifecycle(connection, id, claim.attempt, &LifecycleEvent::Attempt)?;
            }
            Ok(claim)
        })
        .await
    }

    /// Ends an attempt. Follow-ups that the run did not take become a
    /// submission of their own behind it, whose number is returned.
    pub(crate) async fn finish(
        &self,
        id: SubmissionId,
        attempt: u32,
        ending: &Ending,
    ) -> Result<Option<Waiting>> {
        let ending = ending.clone();
        self.call(move |connection| {
            record_ending(connection, id, attempt, &ending)?;
            match ending {
                Ending::Failed(_, Next::Again(_)) => {
                    follow_ups::deliver_again(connection, id)?;
                    Ok(None)
                }
                _ => follow_ups::requeue_undelivered(connection, id),
            }
        })
        .await
    }

    /// Takes a waiting submission out of the queue, as done without an attempt.
    pub(crate) async fn withdraw(&self, id: SubmissionId) -> Result<bool> {
        self.call(move |connection| {
            let sql = "UPDATE submissions SET stage = ?2, ended = ?4 \
                       WHERE id = ?1 AND stage = ?3 RETURNING attempt";
            let mut statement = connection.prepare(sql)?;
            let withdrawn = statement
                .query_row(params![id, Stage::Done, Stage::Queued, now_ms()], |row| {
                    row.get::<_, u32>(0)
                })
                .optional()?;
            let Some(attempt) = withdrawn else {
                return Ok(false);
            };
            let code = Exit::Interrupted.code();
            record_lifecycle(connection, id, attempt, &LifecycleEvent::Done { code })?;
            Ok(true)
        })
        .await
    }

    /// The attempts that were under way when the last `serve` died.
    pub(crate) async fn interrupted(&self) -> Result<Vec<Interrupted>> {
        self.call(|connection| {
            let sql = "SELECT id, grp, attempt, allowed, run FROM submissions \
                       WHERE stage = ?1 ORDER BY id";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([Stage::Running], |row| {
                Ok(Interrupted {
                    id: row.get(0)?,
                    group: parse_column(row, 1)?,
                    attempt: row.get(2)?,
                    allowed: row.get(3)?,
                    run: row.get(4)?,
                })
            })?;
            rows.collect()
        })
        .await
    }

    /// The submissions that match, oldest first.
    pub(crate) async fn list(&self, filter: Filter) -> Result<Vec<Summary>> {
        self.call(move |connection| {
            let sql = format!(
                "SELECT {SUMMARY} FROM submissions s WHERE id > ?1 \
                 AND (?2 IS NULL OR stage = ?2) AND (?3 IS NULL OR grp = ?3) \
                 ORDER BY id LIMIT {LIST}"
            );
            let group = filter.group.as_ref().map(GroupName::as_str);
            let mut statement = connection.prepare(&sql)?;
            let rows = statement.query_map(params![filter.after, filter.stage, group], summary)?;
            rows.collect()
        })
        .await
    }

    /// One submission.
    pub(crate) async fn find(&self, id: SubmissionId) -> Result<Option<Summary>> {
        self.call(move |connection| {
            let sql = format!("SELECT {SUMMARY} FROM submissions s WHERE id = ?1");
            let mut statement = connection.prepare(&sql)?;
            statement.query_row([id], summary).optional()
        })
        .await
    }

    /// Forgets what ended with a result before a time, events included.
    pub(crate) async fn prune(&self, before_ms: i64) -> Result<usize> {
        self.call(move |connection| {
            let sql = "DELETE FROM submissions WHERE stage = ?1 AND ended < ?2";
            connection.execute(sql, params![Stage::Done, before_ms])
        })
        .await
    }
}

/// Columns of a [`Summary`]. Only a submission that is not done has a reason, and
/// only that of its latest attempt.
pub(super) const SUMMARY: &str = "id, key, grp, kind, stage, attempt, created, ended, \
    (SELECT reason FROM failures f WHERE f.submission = s.id AND f.attempt = s.attempt \
     AND s.stage <> 'done' ORDER BY rowid DESC LIMIT 1)";

pub(super) fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    Ok(Summary {
        id: row.get(0)?,
        key: row.get(1)?,
        group: parse_column(row, 2)?,
        kind: row.get(3)?,
        stage: row.get(4)?,
        attempt: row.get(5)?,
        created: row.get(6)?,
        ended: row.get(7)?,
        reason: row.get(8)?,
    })
}

/// Adds a submission in the transaction that is open.
pub(super) fn insert(
    connection: &Connection,
    key: Option<&str>,
    group: Option<&GroupName>,
    kind: Kind,
    input: &str,
    allowed: u32,
) -> rusqlite::Result<SubmissionId> {
    let sql = "INSERT INTO submissions (key, grp, kind, input, stage, allowed, created, due) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)";
    let group = group.map(GroupName::as_str);
    let values = params![key, group, kind, input, Stage::Queued, allowed, now_ms()];
    connection.prepare(sql)?.execute(values)?;
    let id = SubmissionId(connection.last_insert_rowid());
    record_lifecycle(connection, id, 0, &LifecycleEvent::Queued)?;
    Ok(id)
}

fn record_ending(
    connection: &Connection,
    id: SubmissionId,
    attempt: u32,
    ending: &Ending,
) -> rusqlite::Result<()> {
    let (stage, due, event) = match ending {
        Ending::Done(exit) => (Stage::Done, 0, LifecycleEvent::Done { code: exit.code() }),
        Ending::Failed(failure, next) => {
            record_failure(connection, id, attempt, failure)?;
            let (class, code, error) = (failure.class, failure.code, failure.reason.as_str());
            match next {
                Next::Again(after) => {
                    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                    let due = now_ms().saturating_add_unsigned(after_ms);
                    let retry = LifecycleEvent::Retry {
                        class,
                        code,
                        error,
                        after_ms,
                    };
                    (Stage::Queued, due, retry)
                }
                Next::GiveUp => {
                    let hint = failure.hint.as_deref();
                    let dead = LifecycleEvent::Dead {
                        class,
                        code,
                        error,
                        hint,
                    };
                    (Stage::Dead, 0, dead)
                }
            }
        }
    };
    let ended = (stage != Stage::Queued).then(now_ms);
    // An end that was recorded before is final.
    let sql = "UPDATE submissions SET stage = ?2, due = ?3, ended = ?4 \
               WHERE id = ?1 AND stage = ?5";
    let values = params![id, stage, due, ended, Stage::Running];
    if connection.prepare(sql)?.execute(values)? == 1 {
        record_lifecycle(connection, id, attempt, &event)?;
    }
    Ok(())
}

fn record_failure(
    connection: &Connection,
    id: SubmissionId,
    attempt: u32,
    failure: &Failure,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO failures (submission, attempt, at, class, code, reached, reason, \
               hint, log) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    connection.prepare(sql)?.execute(params![
        id,
        attempt,
        now_ms(),
        failure.class.name(),
        failure.code,
        failure.reached_agent,
        failure.reason,
        failure.hint,
        failure.log.join("\n"),
    ])?;
    Ok(())
}
