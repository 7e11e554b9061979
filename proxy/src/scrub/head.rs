//! The heads of answers, and the request header that keeps answers readable.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, SEC_WEBSOCKET_EXTENSIONS, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, response};
use hyper::ext::ReasonPhrase;

use super::Patterns;

/// Masks the secrets in everything of an answer but its body.
///
/// The reason phrase, which HTTP/1 lets an upstream choose freely, is dropped:
/// clients do not read it, and the status stays.
pub(crate) fn scrub_head(head: &mut response::Parts, patterns: &Patterns) {
    head.extensions.remove::<ReasonPhrase>();
    scrub_headers(&mut head.headers, patterns);
}

/// Masks the secrets in header or trailer values.
pub(crate) fn scrub_headers(headers: &mut HeaderMap, patterns: &Patterns) {
    for value in headers.values_mut() {
        if let Some(masked) = patterns.masked(value.as_bytes()) {
            // Masks are printable and nothing else changed, so the value stays
            // valid; an empty one would be the safe side.
            *value = HeaderValue::from_maybe_shared(Bytes::from(masked))
                .unwrap_or_else(|_| HeaderValue::from_static(""));
        }
    }
}

/// Asks the upstream for an answer that can be read.
///
/// Always said, not merely left out: without the header any encoding is
/// allowed (RFC 9110, section 12.5.3). A WebSocket's extensions are what would
/// compress its messages, so none is offered.
pub(crate) fn request_identity(headers: &mut HeaderMap) {
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// The upstream compressed an answer although it was asked not to.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer has {header}: {coding:?}, so secrets in it could not be hidden")]
pub(crate) struct CompressedAnswer {
    header: HeaderName,
    /// As the upstream wrote it, shortened.
    coding: String,
}

/// Refuses an answer whose body cannot be searched.
///
/// # Errors
/// The answer has a content coding other than `identity`, or a transfer coding
/// other than `chunked`.
pub(crate) fn require_identity(headers: &HeaderMap) -> Result<(), CompressedAnswer> {
    for (header, plain) in [
        (CONTENT_ENCODING, "identity"),
        (TRANSFER_ENCODING, "chunked"),
    ] {
        for value in headers.get_all(&header) {
            let is_plain = value.to_str().is_ok_and(|codings| {
                let mut codings = codings.split(',').map(str::trim);
                codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(plain))
            });
            if !is_plain {
                let shown = value
                    .as_bytes()
                    .iter()
                    .take(40)
                    .copied()
                    .collect::<Vec<_>>();
                let coding = String::from_utf8_lossy(&shown).into_owned();
                return Err(CompressedAnswer { header, coding });
            }
        }
    }
    Ok(())
}
