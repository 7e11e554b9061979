//! An append-only record of every request, which can be verified offline.
//!
//! The file has one JSON object per line. Each carries the SHA-256 hash of the
//! one before it and of itself, so that a record that is edited, removed,
//! added or moved breaks the chain at that place. What a chain cannot show is
//! that its end was cut off, or that all of it was written anew; that is what
//! the anchor is for, the number and hash of a record that must be there. The
//! writer keeps one next to the file, and an operator who distrusts the machine copies
//! it elsewhere from time to time.
//!
//! A request takes a [`Permit`] before anything of it is forwarded. When the
//! file cannot be written, or the writer falls behind, there is none, and the
//! request is refused: no audit, no service.
//!
//! A full disk passes. The writer keeps the records of requests that were in
//! flight, removes what it could not write to its end, and tries again every
//! second; when all of it is written, and the anchor, there are permits again.
//! Only a disk that does not keep what it took (`fdatasync` fails) ends the
//! service until a restart: nobody could say which records are lost.

mod chain;
mod file;
mod verify;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

pub use chain::{Anchor, Hash, InvalidAnchor};
pub use verify::{Report, VerifyError, verify};
pub use writer::OpenError;

use writer::{Message, Writer};

use crate::policy::Fsync;

/// Records that may wait for the writer, those of requests in flight included.
const QUEUE_RECORDS: usize = 16 * 1024;

/// An event that is recorded.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The proxy began to write to this file.
    Opened {
        /// The proxy's version.
        version: &'static str,
        /// Bytes of an unfinished record, left by a crash, that were removed.
        #[serde(skip_serializing_if = "Option::is_none")]
        removed_bytes: Option<u64>,
    },
    /// The proxy ended cleanly.
    Closed,
    /// For so long the file could not be written, and requests were refused.
    Interrupted {
        /// From the first write that failed to this record.
        seconds: u64,
    },
    /// A request ended, however it did.
    Request(Box<crate::observe::Record>),
    /// A session was issued, revoked or has expired.
    Session {
        /// `issued`, `revoked` or `expired`.
        action: &'static str,
        /// Its id, which is not its token.
        session: String,
        /// The run it belongs to.
        run: String,
    },
    /// Configuration or credentials were loaded anew.
    Reloaded {
        /// The loaded configuration, and whether it is in use.
        detail: String,
    },
}

/// The audit file of a running proxy. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct AuditLog {
    queue: mpsc::Sender<Message>,
    is_interrupted: Arc<AtomicBool>,
}

/// The file cannot take another record.
#[derive(Debug, thiserror::Error)]
#[error("the audit file cannot be written, or its writer is behind")]
pub(crate) struct AuditUnavailable;

/// The right to write one record. Nothing is written when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit(mpsc::OwnedPermit<Message>);

impl AuditLog {
    /// Opens or creates the file, takes its lock and starts its writer.
    ///
    /// # Errors
    /// The file cannot be opened, is in use by another process, or does not
    /// continue what its anchor says.
    pub(crate) fn open(path: PathBuf, fsync: Fsync) -> Result<Self, OpenError> {
        let (queue, messages) = mpsc::channel(QUEUE_RECORDS);
        let writer = Writer::open(path, fsync)?;
        let is_interrupted = Arc::clone(writer.is_interrupted());
        writer.start(messages)?;
        Ok(Self {
            queue,
            is_interrupted,
        })
    }

    /// Reserves capacity for one record.
    ///
    /// # Errors
    /// There is none, or the file cannot be written at the moment.
    pub(crate) fn permit(&self) -> Result<Permit, AuditUnavailable> {
        if self.is_interrupted.load(Ordering::Acquire) {
            return Err(AuditUnavailable);
        }
        self.reserve()
    }

    /// Records what happens whether it can be written now or only later, such
    /// as the end of a session. It is lost if the queue is full.
    pub(crate) fn note(&self, event: Event) {
        if let Ok(permit) = self.reserve() {
            permit.write(event);
        }
    }

    fn reserve(&self) -> Result<Permit, AuditUnavailable> {
        let permit = self.queue.clone().try_reserve_owned();
        permit.map(Permit).map_err(|_| AuditUnavailable)
    }

    /// Writes the last record, syncs, and ends the writer, within `deadline`.
    ///
    /// # Errors
    /// It did not get that far.
    pub(crate) async fn close(&self, deadline: Duration) -> Result<(), AuditUnavailable> {
        let (done, closed) = oneshot::channel();
        let close = async {
            self.queue
                .send(Message::Close(done))
                .await
                .map_err(|_| AuditUnavailable)?;
            closed.await.map_err(|_| AuditUnavailable)
        };
        let in_time = tokio::time::timeout(deadline, close).await;
        in_time.unwrap_or(Err(AuditUnavailable))
    }
}

impl Permit {
    /// Passes the record to the writer. Never waits.
    pub(crate) fn write(self, event: Event) {
        let time = SystemTime::now();
        let _sender = self.0.send(Message::Event { time, event });
    }
}

#[cfg(test)]
mod tests;
