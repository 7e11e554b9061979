//! The record of a request that has ended.

use std::sync::Arc;

use serde::Serialize;

/// The log target of completion lines, to turn them off or on by name.
pub(super) const REQUEST_TARGET: &str = "drawbridge::request";

/// The end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
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
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A request that has ended, as in the log and the audit file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Record {
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
    /// Its end.
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
    pub(super) fn log(&self) {
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
