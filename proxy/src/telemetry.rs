//! One record per request, made when it ends, however it ends.
//!
//! The record goes three ways: a line in the log, the counters of
//! [`metrics`](crate::metrics), and the [`audit`](crate::audit) file when there
//! is one. It holds nothing of a header, a query or a body.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode, Uri};
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::audit::{AuditLog, AuditUnavailable, Event, Permit};
use crate::metrics::{End, Metrics, RouteMetrics};
use crate::usage::Usage;

/// The log target of completion lines, to turn them off or on by name.
pub const REQUEST_TARGET: &str = "drawbridge::request";

/// Longest path that is kept whole.
const MAX_PATH_BYTES: usize = 1024;

/// How the log is written to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts the log of this process.
///
/// `filter` is in the form of [`EnvFilter`], such as `info` or
/// `warn,drawbridge::request=info`; what is wrong in it is ignored.
///
/// # Errors
/// The process has a log already.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TryInitError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The answer was passed on to its end.
    Done,
    /// The upstream or the proxy failed, or the request was refused.
    Error,
    /// The client went away before the end.
    Cancelled,
}

impl Outcome {
    pub(crate) const ALL: [Self; 3] = [Self::Done, Self::Error, Self::Cancelled];

    /// As it is logged.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Where records go. Clones share it.
#[derive(Clone, Debug)]
pub struct Telemetry {
    metrics: Arc<Metrics>,
    audit: Option<AuditLog>,
    /// For requests that reach no route.
    unrouted: Arc<RouteMetrics>,
}

impl Telemetry {
    /// Counts in `metrics`, and writes to `audit` when there is one.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, audit: Option<AuditLog>) -> Self {
        let unrouted = metrics.route("-");
        Self {
            metrics,
            audit,
            unrouted,
        }
    }

    /// The counters.
    #[must_use]
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The audit file.
    #[must_use]
    pub const fn audit(&self) -> Option<&AuditLog> {
        self.audit.as_ref()
    }

    /// Begins the record of a request whose head has just been read.
    ///
    /// # Errors
    /// There is an audit file and it cannot take the record: refuse the
    /// request.
    pub fn begin(&self, method: &Method, uri: &Uri) -> Result<Completion, AuditUnavailable> {
        let permit = self.audit.as_ref().map(AuditLog::permit).transpose()?;
        self.unrouted.begin();
        Ok(Completion {
            permit,
            route: Arc::clone(&self.unrouted),
            session: None,
            method: method.clone(),
            path: shortened(uri.path()).into(),
            started: Instant::now(),
            status: None,
            first_byte: None,
            bytes_in: ByteCount::default(),
            bytes_out: 0,
            usage: None,
            outcome: Outcome::Cancelled,
            reason: None,
        })
    }
}

/// Bytes counted in one place and reported in another.
#[derive(Clone, Debug, Default)]
pub struct ByteCount(Arc<AtomicU64>);

impl ByteCount {
    /// Counts more bytes.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The record of a request in flight. It is reported when this is dropped, so
/// it belongs to whatever lives as long as the request: at last, the body of
/// its answer.
///
/// Until [`Completion::done`] or [`Completion::failed`] is called, a drop means
/// that the client went away.
#[derive(Debug)]
pub struct Completion {
    permit: Option<Permit>,
    route: Arc<RouteMetrics>,
    session: Option<Arc<str>>,
    method: Method,
    /// A copy: a part of the URI would keep the buffer that the request was
    /// read into for as long as the answer streams.
    path: Box<str>,
    started: Instant,
    status: Option<StatusCode>,
    first_byte: Option<Duration>,
    bytes_in: ByteCount,
    bytes_out: u64,
    usage: Option<Usage>,
    outcome: Outcome,
    reason: Option<&'static str>,
}

impl Completion {
    /// The request belongs to this session.
    pub fn session(&mut self, id: Arc<str>) {
        self.session = Some(id);
    }

    /// The request goes to this route.
    pub fn route(&mut self, route: &Arc<RouteMetrics>) {
        route.begin();
        std::mem::replace(&mut self.route, Arc::clone(route)).withdraw();
    }

    /// The head of the answer is there.
    pub fn head(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.first_byte = Some(self.started.elapsed());
    }

    /// Counts the bytes of the request's body, which is read elsewhere.
    #[must_use]
    pub const fn bytes_in(&self) -> &ByteCount {
        &self.bytes_in
    }

    /// So many more bytes of the answer's body were passed on.
    pub const fn add_bytes_out(&mut self, bytes: usize) {
        self.bytes_out = self.bytes_out.saturating_add(bytes as u64);
    }

    /// What the answer says it cost.
    pub const fn usage(&mut self, usage: Option<Usage>) {
        self.usage = usage;
    }

    /// The answer was passed on to its end.
    pub const fn done(&mut self) {
        self.outcome = Outcome::Done;
    }

    /// The request failed or was refused. `reason` is a fixed phrase, so that
    /// nothing a client or an upstream sent gets into the log with it.
    pub const fn failed(&mut self, reason: &'static str) {
        self.outcome = Outcome::Error;
        self.reason = Some(reason);
    }

    /// Time since the request's head was read.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        self.route.end(&End {
            outcome: self.outcome,
            status: self.status,
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out,
            first_byte: self.first_byte,
            duration,
            usage: self.usage,
        });
        let is_logged = tracing::enabled!(target: REQUEST_TARGET, tracing::Level::INFO);
        if is_logged || self.permit.is_some() {
            let record = self.record(duration);
            record.log();
            if let Some(permit) = self.permit.take() {
                permit.write(Event::Request(Box::new(record)));
            }
        }
    }
}

impl Completion {
    fn record(&self, duration: Duration) -> Record {
        Record {
            route: Arc::clone(self.route.name()),
            session: self.session.clone(),
            method: self.method.as_str().to_owned(),
            path: self.path.to_string(),
            status: self.status.map(|status| status.as_u16()),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out,
            first_byte_ms: self.first_byte.map(milliseconds),
            duration_ms: milliseconds(duration),
            outcome: self.outcome,
            reason: self.reason,
            input_tokens: self.usage.map(|usage| usage.total_input()),
            output_tokens: self.usage.map(|usage| usage.output),
        }
    }
}

fn shortened(path: &str) -> &str {
    &path[..path.floor_char_boundary(MAX_PATH_BYTES)]
}

/// To the microsecond.
#[expect(clippy::cast_precision_loss, reason = "exact for the first 285 years")]
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// A request that has ended, as the log and the audit file tell it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Its route's name; `-` when it reached none.
    pub route: Arc<str>,
    /// Its session's id, which is not its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Arc<str>>,
    /// Its method.
    pub method: String,
    /// Its path without the query, as the client sent it.
    pub path: String,
    /// The status of the answer; none when there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// Milliseconds until the answer's head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<f64>,
    /// Milliseconds until the end.
    pub duration_ms: f64,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, when it failed or was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// All input tokens, those in caches included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Output tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
}

impl Record {
    fn log(&self) {
        tracing::info!(
            target: REQUEST_TARGET,
            route = &*self.route,
            session = self.session.as_deref(),
            method = self.method,
            path = self.path,
            status = self.status,
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            first_byte_ms = self.first_byte_ms,
            duration_ms = self.duration_ms,
            outcome = self.outcome.as_str(),
            reason = self.reason,
            input_tokens = self.input_tokens,
            output_tokens = self.output_tokens,
            "request",
        );
    }
}

#[cfg(test)]
mod tests;
