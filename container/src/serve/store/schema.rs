//! The database file: its layout, its version, and what is done with a
//! damaged one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode};

use crate::error::{Error, Result};

/// Version of the layout that this program writes.
const VERSION: i64 = 1;
/// Longest time for which another program may hold the file.
const BUSY: Duration = Duration::from_secs(5);

const LAYOUT: &str = "
CREATE TABLE submissions (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    key      TEXT UNIQUE,
    grp      TEXT,
    kind     TEXT NOT NULL,
    -- What the caller wrote, byte for byte.
    input    TEXT NOT NULL,
    stage    TEXT NOT NULL,
    -- Attempts begun, attempts allowed, and how often a person allowed more.
    attempt  INTEGER NOT NULL DEFAULT 0,
    allowed  INTEGER NOT NULL,
    manual   INTEGER NOT NULL DEFAULT 0,
    -- The run of the latest attempt, from before its program starts.
    run      TEXT,
    -- Milliseconds since 1970.
    created  INTEGER NOT NULL,
    due      INTEGER NOT NULL,
    ended    INTEGER
) STRICT;
CREATE INDEX submissions_by_stage ON submissions (stage, id);
CREATE TABLE failures (
    submission INTEGER NOT NULL REFERENCES submissions ON DELETE CASCADE,
    attempt    INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    class      TEXT NOT NULL,
    code       INTEGER NOT NULL,
    reached    INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    hint       TEXT,
    log        TEXT NOT NULL
) STRICT;
CREATE INDEX failures_by_submission ON failures (submission);
CREATE TABLE events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    submission INTEGER NOT NULL REFERENCES submissions ON DELETE CASCADE,
    attempt    INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    json       TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_submission ON events (submission, seq);
CREATE TABLE follow_ups (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    submission INTEGER NOT NULL REFERENCES submissions ON DELETE CASCADE,
    json       TEXT NOT NULL,
    -- The file that it was made ready in; gone from the group's outbox when the
    -- agent was given it.
    file       TEXT,
    delivered  INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX follow_ups_by_submission ON follow_ups (submission, id);
";

/// Opens the file, checks it, and brings it to the present layout.
pub(super) fn open(path: &Path) -> Result<Connection> {
    match prepare(path) {
        Ok(connection) => Ok(connection),
        Err(Unusable::Newer(version)) => {
            let shown = path.display();
            Err(Error::not_started(format!(
                "the queue {shown} has layout {version}, and this program knows {VERSION}"
            ))
            .hint("use the version of drawbridge that wrote it, or a later one"))
        }
        Err(Unusable::Damaged(complaint)) => Err(quarantine(path, &complaint)),
        Err(Unusable::Failed(error)) => {
            let code = error.sqlite_error_code();
            let is_damaged = matches!(
                code,
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            );
            if is_damaged {
                return Err(quarantine(path, &error.to_string()));
            }
            Err(explain(path, Arc::new(error)))
        }
    }
}

enum Unusable {
    Newer(i64),
    Damaged(String),
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

fn prepare(path: &Path) -> std::result::Result<Connection, Unusable> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // Each commit waits for the disk: what was accepted survives a power cut.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let complaint: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if complaint != "ok" {
        return Err(Unusable::Damaged(complaint));
    }
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {LAYOUT} PRAGMA user_version = {VERSION}; COMMIT;"
        ))?,
        VERSION => {}
        newer => return Err(Unusable::Newer(newer)),
    }
    Ok(connection)
}

/// Moves a damaged file and its journal away. This start fails, so that
/// somebody hears of it; the next one begins with an empty queue.
fn quarantine(path: &Path, complaint: &str) -> Error {
    let mut moved = PathBuf::new();
    for suffix in ["", "-wal", "-shm"] {
        let with = |tail: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(tail);
            PathBuf::from(name)
        };
        let aside = with(&format!(".damaged-{}{suffix}", now_ms()));
        match fs::rename(with(suffix), &aside) {
            Ok(()) if suffix.is_empty() => moved = aside,
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => {
                return Error::infrastructure(format!(
                    "the queue {} is damaged and cannot be set aside",
                    path.display()
                ))
                .caused_by(cause);
            }
        }
    }
    let (path, moved) = (path.display(), moved.display());
    Error::infrastructure(format!("the queue {path} is damaged: {complaint}")).hint(format!(
        "it was set aside as {moved}; `sqlite3 FILE .recover` reads what is left of it, \
         and the next start begins with an empty queue"
    ))
}

/// The error of a failed request, with the way out.
pub(super) fn explain(path: &Path, cause: Arc<rusqlite::Error>) -> Error {
    let shown = path.display();
    let hint = match cause.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            format!("make room on the disk that holds {shown}; nothing that was accepted is lost")
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
            format!("look after the disk and the permissions of {shown}")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "start `drawbridge serve` again: it sets a damaged file aside".to_owned()
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds the file; try again".to_owned()
        }
        _ => "this is a defect of drawbridge".to_owned(),
    };
    Error::infrastructure(format!("the queue {shown} cannot be used"))
        .caused_by(cause)
        .hint(hint)
}

/// The wall clock, in milliseconds since 1970. It is written down and shown;
/// no wait is measured with it.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |elapsed| {
        i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
    })
}
