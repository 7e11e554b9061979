//! The response that a client gets for a refused request.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response};

use super::response_body::ResponseBody;
use crate::policy::{ErrorStyle, Refusal};

/// Tells Anthropic's and OpenAI's clients not to try again.
pub(super) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The answer, as JSON in the shape that the route's clients read.
pub(super) fn render(refusal: &Refusal, style: ErrorStyle) -> Response<ResponseBody> {
    let body = Bytes::from(style.shape.render(refusal.status(), &refusal.to_string()));
    let mut response = Response::new(ResponseBody::ready(body));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !refusal.may_succeed_later() {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if matches!(refusal, Refusal::Unauthenticated) && style.asks_for_basic {
        let challenge = HeaderValue::from_static("Basic realm=\"drawbridge\"");
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if let Refusal::TooFast { retry_after } | Refusal::CredentialOutage { retry_after, .. } =
        refusal
    {
        let seconds = retry_after.as_secs().max(1);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
