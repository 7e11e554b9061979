//! Classification of the model API's own errors.

use drawbridge_shared::protocol::ErrorKind;

/// The kind that an HTTP status means, for agents that report no more.
pub(super) fn kind_of_status(status: u64) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Auth,
        402 => ErrorKind::Budget,
        408 => ErrorKind::Timeout,
        413 => ErrorKind::Context,
        429 => ErrorKind::RateLimit,
        500.. => ErrorKind::Overload,
        _ => ErrorKind::Api,
    }
}

/// The kind that a type of the Messages API's errors means.
pub(super) fn kind_of_type(kind: &str, message: &str) -> ErrorKind {
    match kind {
        "overloaded_error" | "api_error" => ErrorKind::Overload,
        "rate_limit_error" => ErrorKind::RateLimit,
        "authentication_error" | "permission_error" => ErrorKind::Auth,
        "billing_error" => ErrorKind::Budget,
        "timeout_error" => ErrorKind::Timeout,
        "request_too_large" => ErrorKind::Context,
        // The API has no error type of its own for these two.
        _ if message.contains("prompt is too long") => ErrorKind::Context,
        _ if message.contains("credit balance is too low") => ErrorKind::Budget,
        _ => ErrorKind::Api,
    }
}
