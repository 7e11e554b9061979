//! Counters for Prometheus.
//!
//! Labels are route names and fixed words, never anything a client chose, so
//! the number of series is bounded by the configuration.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::record::Outcome;
use crate::usage::Usage;

/// From a millisecond to the minutes a model may think.
const SECONDS: [f64; 14] = [
    0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];

/// The media type of [`Metrics::render`].
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All series of a proxy.
pub(crate) struct Metrics {
    registry: Registry,
    families: Families,
    /// The series of each route, so that a request needs no look-up.
    routes: Mutex<HashMap<String, Arc<RouteMetrics>>>,
}

struct Families {
    requests: Family<RequestLabels, Counter>,
    in_flight: Family<RouteLabel, Gauge>,
    bytes: Family<ByteLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    connections: Family<ConnectionLabels, Counter>,
    first_byte: Family<RouteLabel, Histogram, fn() -> Histogram>,
    duration: Family<RouteLabel, Histogram, fn() -> Histogram>,
    refreshes: Family<RefreshLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByteLabels {
    route: String,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    route: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    route: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefreshLabels {
    route: String,
    result: &'static str,
}

/// Kinds of status codes, as labels.
const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The series of one route.
pub(crate) struct RouteMetrics {
    name: Arc<str>,
    /// By outcome, then by kind of status.
    requests: [[Counter; STATUSES.len()]; Outcome::ALL.len()],
    in_flight: Gauge,
    bytes_in: Counter,
    bytes_out: Counter,
    /// Input, output, cache read, cache write.
    tokens: [Counter; 4],
    connections_opened: Counter,
    connections_reused: Counter,
    first_byte: Histogram,
    duration: Histogram,
    refreshes_done: Counter,
    refreshes_failed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let new_histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let families = Families {
            first_byte: Family::new_with_constructor(new_histogram),
            duration: Family::new_with_constructor(new_histogram),
            requests: Family::default(),
            in_flight: Family::default(),
            bytes: Family::default(),
            tokens: Family::default(),
            connections: Family::default(),
            refreshes: Family::default(),
        };
        let mut registry = Registry::with_prefix("drawbridge_proxy");
        let Families {
            requests,
            in_flight,
            bytes,
            tokens,
            connections,
            first_byte,
            duration,
            refreshes,
        } = &families;
        registry.register("requests", "Requests that ended", requests.clone());
        registry.register(
            "requests_in_flight",
            "Requests that have not ended",
            in_flight.clone(),
        );
        registry.register(
            "body_bytes",
            "Bytes of request and response bodies",
            bytes.clone(),
        );
        registry.register("tokens", "Tokens that answers reported", tokens.clone());
        registry.register(
            "upstream_connections",
            "Requests by whether their connection was opened for them",
            connections.clone(),
        );
        registry.register(
            "first_byte_seconds",
            "Time from a request's head to the head of its answer",
            first_byte.clone(),
        );
        registry.register(
            "duration_seconds",
            "Time from a request's head to its end",
            duration.clone(),
        );
        registry.register(
            "credential_refreshes",
            "Renewals of a credential",
            refreshes.clone(),
        );
        let routes = Mutex::default();
        Self {
            registry,
            families,
            routes,
        }
    }
}

impl Metrics {
    /// The series of a route; the same ones each time.
    #[must_use]
    pub(crate) fn route(&self, name: &str) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = routes.get(name) {
            return Arc::clone(known);
        }
        let new = Arc::new(self.families.route(name));
        routes.insert(name.to_owned(), Arc::clone(&new));
        new
    }

    /// All series in the `OpenMetrics` text format; see [`MEDIA_TYPE`].
    #[must_use]
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Families {
    fn route(&self, name: &str) -> RouteMetrics {
        let route = || name.to_owned();
        let label = RouteLabel { route: route() };
        let requests = |outcome: Outcome, status| {
            let outcome = outcome.as_str();
            self.requests.get_or_create_owned(&RequestLabels {
                route: route(),
                status,
                outcome,
            })
        };
        let bytes = |direction| {
            self.bytes.get_or_create_owned(&ByteLabels {
                route: route(),
                direction,
            })
        };
        let tokens = |kind| {
            self.tokens.get_or_create_owned(&TokenLabels {
                route: route(),
                kind,
            })
        };
        let connections = |kind| {
            self.connections.get_or_create_owned(&ConnectionLabels {
                route: route(),
                kind,
            })
        };
        let refreshes = |result| {
            self.refreshes.get_or_create_owned(&RefreshLabels {
                route: route(),
                result,
            })
        };
        RouteMetrics {
            name: name.into(),
            requests: Outcome::ALL.map(|outcome| STATUSES.map(|status| requests(outcome, status))),
            in_flight: self.in_flight.get_or_create_owned(&label),
            bytes_in: bytes("in"),
            bytes_out: bytes("out"),
            tokens: ["input", "output", "cache_read", "cache_write"].map(tokens),
            connections_opened: connections("opened"),
            connections_reused: connections("reused"),
            first_byte: self.first_byte.get_or_create_owned(&label),
            duration: self.duration.get_or_create_owned(&label),
            refreshes_done: refreshes("done"),
            refreshes_failed: refreshes("failed"),
        }
    }
}

impl RouteMetrics {
    /// The route's name.
    #[must_use]
    pub(crate) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a request that took a connection from the pool.
    pub(crate) fn connection_reused(&self) {
        self.connections_reused.inc();
    }

    /// Counts a request that a connection was opened for.
    pub(crate) fn connection_opened(&self) {
        self.connections_opened.inc();
    }

    /// Counts a renewal of the route's credential.
    pub(crate) fn credential_refreshed(&self, is_done: bool) {
        let counter = if is_done {
            &self.refreshes_done
        } else {
            &self.refreshes_failed
        };
        counter.inc();
    }

    /// Undoes [`RouteMetrics::begin`]: the request turned out to be another route's.
    pub(crate) fn withdraw(&self) {
        self.in_flight.dec();
    }

    pub(crate) fn begin(&self) {
        self.in_flight.inc();
    }

    pub(crate) fn end(&self, end: &End) {
        self.in_flight.dec();
        let status = end
            .status
            .map_or(0, |status| usize::from(status.as_u16() / 100));
        // Statuses above 599 are errors of the upstream too.
        self.requests[end.outcome as usize][status.min(STATUSES.len() - 1)].inc();
        self.bytes_in.inc_by(end.bytes_in);
        self.bytes_out.inc_by(end.bytes_out);
        if let Some(usage) = end.usage {
            let counts = [
                usage.input,
                usage.output,
                usage.cache_read,
                usage.cache_write,
            ];
            for (counter, count) in self.tokens.iter().zip(counts) {
                counter.inc_by(count);
            }
        }
        if let Some(first_byte) = end.first_byte {
            self.first_byte.observe(first_byte.as_secs_f64());
        }
        self.duration.observe(end.duration.as_secs_f64());
    }
}

/// The figures of a request that ended.
pub(crate) struct End {
    pub(crate) outcome: Outcome,
    pub(crate) status: Option<StatusCode>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) duration: Duration,
    pub(crate) usage: Option<Usage>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteMetrics")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
