//! The driver of an HTTP/1 connection to an upstream.
//!
//! A connection is driven by the task of the client that uses it, as part of
//! waiting for the answer. A request then takes no step from one task to
//! another and back, which costs more than the work that is done in between.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::connect::UpstreamStream;
use super::request_body::RequestBody;
use crate::base::chain;

type Connection = http1::Connection<TokioIo<UpstreamStream>, RequestBody>;

/// Drives one connection; dropped, it closes it.
pub(super) enum Driver {
    /// By whoever polls.
    Here(Pin<Box<Connection>>),
    /// In a task of its own.
    Detached { _task: Task },
    /// The connection is closed.
    Ended,
}

/// A task that ends with this.
pub(super) struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Driver {
    pub(super) fn new(connection: Connection) -> Self {
        Self::Here(Box::pin(connection))
    }

    /// Polls for what the connection brings, and the connection.
    pub(super) fn drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !self.is_here() {
            return poll(cx);
        }
        // Only the connection brings it, and the connection is polled here and
        // nowhere else. To be woken for what is found a line below would be to
        // be polled once more in vain.
        let mut quiet = Context::from_waker(Waker::noop());
        if let Poll::Ready(done) = poll(&mut quiet) {
            return Poll::Ready(done);
        }
        self.advance(cx);
        poll(cx)
    }

    /// Whether it is driven by whoever polls.
    pub(super) const fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }

    /// Whether the connection can be used. One that lies idle is polled by
    /// nobody, so that its end is found here.
    pub(super) fn is_open(&mut self) -> bool {
        self.advance(&mut Context::from_waker(Waker::noop()));
        self.is_here()
    }

    fn advance(&mut self, cx: &mut Context<'_>) {
        let Self::Here(connection) = self else { return };
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            log(ended);
            *self = Self::Ended;
        }
    }

    /// Goes on in a task, whether anybody polls or not.
    pub(super) fn detach(&mut self) {
        self.spawn(|connection| tokio::task::spawn_local(async { log(connection.await) }));
    }

    /// Goes on in a task, which hands the stream over when protocols are
    /// switched.
    pub(super) fn allow_upgrade(&mut self) {
        self.spawn(|connection| {
            let connection = Pin::into_inner(connection).with_upgrades();
            tokio::task::spawn_local(async { log(connection.await) })
        });
    }

    fn spawn(&mut self, spawn: impl FnOnce(Pin<Box<Connection>>) -> tokio::task::JoinHandle<()>) {
        *self = match std::mem::replace(self, Self::Ended) {
            Self::Here(connection) => Self::Detached {
                _task: Task(spawn(connection).abort_handle()),
            },
            other => other,
        };
    }
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!("upstream connection ended: {}", chain(&error));
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Here(_) => "Here",
            Self::Detached { .. } => "Detached",
            Self::Ended => "Ended",
        })
    }
}
