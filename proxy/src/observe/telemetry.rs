//! One record per request, made when it ends, however it ends.
//!
//! The record goes three ways: a line in the log, the counters of
//! [`metrics`](crate::observe::metrics), and the [`audit`](crate::observe::audit) file when there
//! is one. It holds nothing of a header, a query or a body.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode, Uri};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use super::audit::{AuditLog, AuditUnavailable, Event, Permit};
use super::metrics::{End, Metrics, RouteMetrics};
use super::record::{Outcome, REQUEST_TARGET, Record};
use crate::usage::Usage;

/// Longest path that is kept whole.
const MAX_PATH_BYTES: usize = 1024;

/// The form of the log on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
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
pub(crate) fn init(format: LogFormat, filter: &str) -> Result<(), TryInitError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
}

/// Where records go. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry {
    metrics: Arc<Metrics>,
    audit: Option<AuditLog>,
    /// For requests that reach no route.
    unrouted: Arc<RouteMetrics>,
}

impl Telemetry {
    /// Counts in `metrics`, and writes to `audit` when there is one.
    #[must_use]
    pub(crate) fn new(metrics: Arc<Metrics>, audit: Option<AuditLog>) -> Self {
        let unrouted = metrics.route("-");
        Self {
            metrics,
            audit,
            unrouted,
        }
    }

    /// The counters.
    #[must_use]
    pub(crate) const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The audit file.
    #[must_use]
    pub(crate) const fn audit(&self) -> Option<&AuditLog> {
        self.audit.as_ref()
    }

    /// Begins the record of a request whose head has just been read.
    ///
    /// # Errors
    /// There is an audit file and it cannot take the record: refuse the
    /// request.
    pub(crate) fn begin(&self, method: &Method, uri: &Uri) -> Result<Completion, AuditUnavailable> {
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
pub(crate) struct ByteCount(Arc<AtomicU64>);

impl ByteCount {
    /// Counts more bytes.
    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The number of bytes.
    #[must_use]
    pub(crate) fn get(&self) -> u64 {
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
pub(crate) struct Completion {
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
    pub(crate) fn session(&mut self, id: Arc<str>) {
        self.session = Some(id);
    }

    /// The request goes to this route.
    pub(crate) fn route(&mut self, route: &Arc<RouteMetrics>) {
        route.begin();
        std::mem::replace(&mut self.route, Arc::clone(route)).withdraw();
    }

    /// The head of the answer is there.
    pub(crate) fn head(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.first_byte = Some(self.started.elapsed());
    }

    /// Counts the bytes of the request's body, which is read elsewhere.
    #[must_use]
    pub(crate) const fn bytes_in(&self) -> &ByteCount {
        &self.bytes_in
    }

    /// So many more bytes of the answer's body were passed on.
    pub(crate) const fn add_bytes_out(&mut self, bytes: usize) {
        self.bytes_out = self.bytes_out.saturating_add(bytes as u64);
    }

    /// The tokens that the answer reports.
    pub(crate) const fn usage(&mut self, usage: Option<Usage>) {
        self.usage = usage;
    }

    /// The answer was passed on to its end.
    pub(crate) const fn done(&mut self) {
        self.outcome = Outcome::Done;
    }

    /// The request failed or was refused. `reason` is a fixed phrase, so that
    /// nothing a client or an upstream sent gets into the log with it.
    pub(crate) const fn failed(&mut self, reason: &'static str) {
        self.outcome = Outcome::Error;
        self.reason = Some(reason);
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
