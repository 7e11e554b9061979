//! Reasons for which a request is refused or fails.
//!
//! Each refusal has two messages: `Display` is what the container may read, and
//! `detail` is what our log keeps.

use std::time::Duration;

use http::StatusCode;

use super::ErrorShape;
use crate::base::path::AmbiguousTarget;

/// The form in which a route's clients get errors.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ErrorStyle {
    pub(crate) shape: ErrorShape,
    /// Clients that send Basic only when asked, as git does, are asked.
    pub(crate) asks_for_basic: bool,
}

/// The side at fault for a refusal; it decides the log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client sent what is not allowed or not valid.
    Client,
    /// The upstream failed.
    Upstream,
    /// The proxy's own configuration or host is at fault.
    Proxy,
}

/// A request that gets an answer of the proxy instead of the upstream's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the request is not acceptable: {0}")]
    Malformed(&'static str),
    #[error("the session token is missing, unknown, expired or revoked")]
    Unauthenticated,
    #[error("no route leads to this path")]
    NoRoute,
    #[error("this session may not use the route {0}")]
    RouteNotGranted(String),
    #[error("method and path are not allowed on the route {0}")]
    NotAllowed(String),
    #[error("the request is addressed to another host than its route leads to")]
    WrongHost,
    #[error("the route {route} has no usable credential")]
    NoCredential { route: String, detail: String },
    #[error("the credential of the route {route} cannot be renewed at the moment")]
    CredentialOutage {
        route: String,
        detail: String,
        retry_after: Duration,
    },
    #[error("the request body is larger than the {0} bytes this session may send")]
    BodyTooLarge(u64),
    #[error("the session has too many requests in flight")]
    TooManyConcurrent,
    #[error("the session sends requests faster than it may")]
    TooFast { retry_after: Duration },
    #[error("the session's budget of {0} tokens is used up")]
    OverBudget(&'static str),
    #[error("what is left of the session's budget of {0} tokens is reserved by requests in flight")]
    BudgetReserved(&'static str),
    #[error("the upstream cannot be reached")]
    Unreachable { detail: String },
    #[error("the upstream ended the connection before it answered")]
    UpstreamClosed { detail: String },
    #[error("the upstream did not start to answer within {} s", .0.as_secs())]
    FirstByteTimeout(Duration),
    #[error("the request body did not arrive in time")]
    UploadStalled,
    #[error("the client ended the request before it was complete")]
    UploadBroken { detail: String },
    #[error("the upstream answered with an upgrade that was not asked for")]
    UnexpectedUpgrade,
    #[error("the upstream's answer is compressed although it was asked not to be")]
    Compressed { detail: String },
    #[error("the request cannot be recorded, so it is not served")]
    AuditUnavailable,
}

impl Refusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::UploadBroken { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::RouteNotGranted(_) | Self::NotAllowed(_) => StatusCode::FORBIDDEN,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::UploadStalled => StatusCode::REQUEST_TIMEOUT,
            Self::WrongHost => StatusCode::MISDIRECTED_REQUEST,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyConcurrent
            | Self::TooFast { .. }
            | Self::OverBudget(_)
            | Self::BudgetReserved(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NoCredential { .. } | Self::CredentialOutage { .. } | Self::AuditUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unreachable { .. }
            | Self::UpstreamClosed { .. }
            | Self::Compressed { .. }
            | Self::UnexpectedUpgrade => StatusCode::BAD_GATEWAY,
            Self::FirstByteTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::NoCredential { .. } | Self::AuditUnavailable => Fault::Proxy,
            Self::CredentialOutage { .. }
            | Self::Unreachable { .. }
            | Self::UpstreamClosed { .. }
            | Self::FirstByteTimeout(_)
            | Self::Compressed { .. }
            | Self::UnexpectedUpgrade => Fault::Upstream,
            _ => Fault::Client,
        }
    }

    /// A fixed phrase for the completion record.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(reason) => reason,
            Self::Unauthenticated => "unknown session",
            Self::NoRoute => "no route",
            Self::RouteNotGranted(_) => "route not granted",
            Self::NotAllowed(_) => "not allowed",
            Self::WrongHost => "wrong host",
            Self::NoCredential { .. } => "no credential",
            Self::CredentialOutage { .. } => "credential outage",
            Self::BodyTooLarge(_) => "body too large",
            Self::TooManyConcurrent => "too many requests in flight",
            Self::TooFast { .. } => "over the request rate",
            Self::OverBudget(_) => "over the token budget",
            Self::BudgetReserved(_) => "token budget reserved",
            Self::Unreachable { .. } => "upstream unreachable",
            Self::UpstreamClosed { .. } => "upstream closed the connection",
            Self::FirstByteTimeout(_) => "upstream did not answer in time",
            Self::UploadStalled => "request body stalled",
            Self::UploadBroken { .. } => "request body broke off",
            Self::UnexpectedUpgrade => "unexpected upgrade",
            Self::Compressed { .. } => "compressed answer",
            Self::AuditUnavailable => "audit file unavailable",
        }
    }

    /// The part of the log entry that the container does not read.
    pub(crate) fn detail(&self) -> Option<&str> {
        match self {
            Self::NoCredential { detail, .. }
            | Self::CredentialOutage { detail, .. }
            | Self::Unreachable { detail }
            | Self::UpstreamClosed { detail }
            | Self::Compressed { detail }
            | Self::UploadBroken { detail } => Some(detail),
            _ => None,
        }
    }

    /// Whether the same request can succeed a little later. A client that
    /// retries where it cannot only makes the user wait: Claude Code retries a
    /// 401 ten times unless it is told not to.
    pub(crate) fn may_succeed_later(&self) -> bool {
        match self {
            Self::TooManyConcurrent
            | Self::TooFast { .. }
            | Self::BudgetReserved(_)
            | Self::AuditUnavailable
            | Self::UploadStalled
            | Self::UploadBroken { .. } => true,
            _ => self.fault() == Fault::Upstream,
        }
    }
}

impl From<AmbiguousTarget> for Refusal {
    fn from(target: AmbiguousTarget) -> Self {
        Self::Malformed(target.reason())
    }
}
