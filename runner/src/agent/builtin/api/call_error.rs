//! Failures of model calls: the cause, whether to retry, and the report to the
//! host.

use std::error::Error;
use std::fmt::Write;
use std::io;
use std::time::Duration;

use drawbridge_shared::json::from_slice_lossy;
use drawbridge_shared::protocol::ErrorKind;
use hyper::header::HeaderMap;
use hyper::{StatusCode, http};
use serde_json::Value;

use super::header;
use crate::agent::api_error::kind_of_type;
use crate::agent::builtin::reply::ReplyError;
use crate::agent::types::Failure;

/// Longest pause before another attempt; a provider that asks for more is
/// reported instead.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Longest pause that we choose ourselves.
const MAX_BACK_OFF: Duration = Duration::from_secs(8);
/// Characters of an error's text that are passed on.
const MAX_MESSAGE_CHARS: usize = 500;

/// Why one attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("the credential proxy cannot be reached")]
    Connect(#[source] io::Error),
    #[error("the request cannot be made")]
    Request(#[source] http::Error),
    #[error("the connection to the model broke")]
    Transport(#[from] hyper::Error),
    #[error("the model {what} within {limit:?}")]
    Stalled {
        /// The step that did not happen.
        what: &'static str,
        /// The time it had.
        limit: Duration,
    },
    #[error("the model's answer is not usable")]
    Reply(#[from] ReplyError),
    #[error("the model API answered {}", .0.status.as_u16())]
    Status(Box<Refusal>),
}

/// An answer other than 200.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// The API's name for the error.
    kind: String,
    message: String,
    /// The value of `x-should-retry`.
    should_retry: Option<bool>,
    retry_after: Option<Duration>,
}

impl CallError {
    pub(super) fn from_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let parsed: Value = from_slice_lossy(body).unwrap_or_default();
        let text = |key: &str| parsed["error"][key].as_str().map(ToOwned::to_owned);
        let number = |name: &str| header(headers, name)?.trim().parse::<u32>().ok();
        let millis = number("retry-after-ms").map(|ms| Duration::from_millis(ms.into()));
        let seconds = number("retry-after").map(|s| Duration::from_secs(s.into()));
        Self::Status(Box::new(Refusal {
            status,
            kind: text("type").unwrap_or_default(),
            message: text("message").unwrap_or_else(|| String::from_utf8_lossy(body).into_owned()),
            should_retry: header(headers, "x-should-retry").and_then(|text| text.parse().ok()),
            retry_after: millis.or(seconds),
        }))
    }

    /// The pause before another attempt; `None` when that cannot help.
    pub(super) fn pause_before_retry(&self, back_off: Duration) -> Option<Duration> {
        let back_off = back_off.min(MAX_BACK_OFF);
        let may_help = match self {
            Self::Connect(_) | Self::Transport(_) | Self::Stalled { .. } => true,
            Self::Reply(ReplyError::Cut) => true,
            Self::Reply(ReplyError::Api { kind, .. }) => is_passing(kind),
            Self::Reply(_) | Self::Request(_) => false,
            Self::Status(refusal) => return refusal.pause(back_off),
        };
        may_help.then_some(back_off)
    }

    /// The failure for the host, after `attempts` attempts.
    pub(super) fn into_failure(self, attempts: u32) -> Failure {
        let mut message = self.to_string();
        match &self {
            Self::Status(refusal) => append(&mut message, &refusal.message),
            _ => {
                let mut cause = self.source();
                while let Some(error) = cause {
                    append(&mut message, &error.to_string());
                    cause = error.source();
                }
            }
        }
        if attempts > 1 {
            // Writing to a text cannot fail.
            let _ = write!(message, " (after {attempts} attempts)");
        }
        Failure {
            retry_after: match &self {
                Self::Status(refusal) => refusal.retry_after,
                _ => None,
            },
            ..Failure::new(self.kind(), message)
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Stalled { .. } => ErrorKind::Timeout,
            Self::Reply(ReplyError::Api { kind, message }) => kind_of_type(kind, message),
            Self::Status(refusal) => refusal.error_kind(),
            _ => ErrorKind::Api,
        }
    }
}

impl Refusal {
    fn pause(&self, back_off: Duration) -> Option<Duration> {
        let status = self.status.as_u16();
        let may_help = matches!(status, 408 | 409 | 429) || status >= 500;
        let pause = self.retry_after.unwrap_or(back_off);
        (self.should_retry.unwrap_or(may_help) && pause <= MAX_PAUSE).then_some(pause)
    }

    fn error_kind(&self) -> ErrorKind {
        match self.status.as_u16() {
            401 | 403 => ErrorKind::Auth,
            413 => ErrorKind::Context,
            429 => ErrorKind::RateLimit,
            500.. => ErrorKind::Overload,
            _ => kind_of_type(&self.kind, &self.message),
        }
    }
}

/// Whether an error in the stream may not come again.
fn is_passing(kind: &str) -> bool {
    matches!(
        kind,
        "overloaded_error" | "api_error" | "rate_limit_error" | "timeout_error"
    )
}

fn append(message: &mut String, more: &str) {
    if !more.is_empty() {
        message.push_str(": ");
        message.extend(more.chars().take(MAX_MESSAGE_CHARS));
    }
}
