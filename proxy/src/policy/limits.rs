//! Bounds and ways of working that the configuration sets and other modules
//! follow.

use std::time::Duration;

use http::HeaderName;
use serde::Deserialize;

/// The proof that clients give that they may use the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// By the token of a session.
    #[default]
    Session,
    /// By the fixed placeholder, as NanoClaw's containers do. It keeps nobody
    /// out, so the listener's address is the only protection.
    Placeholder,
}

/// The place of a secret in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Injection {
    /// As the value of a header of its own.
    Header(HeaderName),
    /// As `Authorization: Bearer`.
    Bearer,
    /// As the password of `Authorization: Basic`, for this user.
    Basic(String),
    /// As a query parameter of this name.
    Query(String),
}

/// The longest waits, each with its own start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For the rest of a request head once it has begun, and for the first one
    /// of a connection.
    pub head: Duration,
    /// For the next request of a connection.
    pub keep_alive: Duration,
    /// For name, connection and TLS of an upstream.
    pub connect: Duration,
    /// For the head of an answer once the request is sent. Models think for
    /// minutes before the first byte.
    pub first_byte: Duration,
    /// For the next piece of a body, either way.
    pub idle: Duration,
    /// For an upstream connection without a request.
    pub idle_upstream: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            keep_alive: Duration::from_secs(300),
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(600),
            idle: Duration::from_secs(300),
            idle_upstream: Duration::from_secs(30),
        }
    }
}

impl Deadlines {
    pub(crate) fn shortest(&self) -> Duration {
        self.first_byte.min(self.idle)
    }
}

/// Bounds on what the proxy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections in all.
    pub connections: usize,
    /// Client connections from one address, or through one unix socket.
    pub connections_per_client: usize,
    /// Idle upstream connections of one route on one worker thread.
    pub idle_upstream_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_client: 8192,
            idle_upstream_connections: 128,
        }
    }
}

/// When written records are forced onto the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// After every batch: a crash of the machine loses nothing that was
    /// written.
    Always,
    /// At most this long after a record was written.
    Interval(Duration),
    /// When the operating system likes, and at the end.
    Never,
}

impl Default for Fsync {
    fn default() -> Self {
        Self::Interval(Duration::from_secs(1))
    }
}
