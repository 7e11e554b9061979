//! Authentication: the session that the token of a request opens.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Uri};

use super::context::RequestContext;
use crate::policy::ClientAuth;
use crate::policy::Refusal;
use crate::session::{Origin, Session, TOKEN_PREFIX};

/// Finds the session that a request's token opens. `None` is the client of
/// a proxy in placeholder mode, which has no session.
pub(crate) fn authenticate(
    context: &RequestContext,
    origin: Origin,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Option<Arc<Session>>, Refusal> {
    let presented = presented_credentials(headers, uri.query());
    let mut tokens = presented
        .iter()
        .filter(|c| c.starts_with(TOKEN_PREFIX.as_bytes()));
    if let Some(token) = tokens.next() {
        let session = context.sessions().authenticate(token, origin);
        return session.map(Some).ok_or(Refusal::Unauthenticated);
    }
    let placeholder = drawbridge_shared::env::PLACEHOLDER.as_bytes();
    let is_placeholder = presented.iter().any(|c| c == placeholder);
    match context.client_auth() {
        ClientAuth::Placeholder if is_placeholder => Ok(None),
        _ => Err(Refusal::Unauthenticated),
    }
}

/// The credentials that the client presents, in every place a token is accepted in: the places
/// where its agents and SDKs put a key.
pub(crate) fn presented_credentials(headers: &HeaderMap, query: Option<&str>) -> Vec<Vec<u8>> {
    let keys = ["x-api-key", "x-goog-api-key"].into_iter();
    let keys = keys.filter_map(|name| headers.get(name));
    let keys = keys.map(|value| value.as_bytes().to_vec());
    let authorization = headers.get(AUTHORIZATION);
    let authorization = authorization.and_then(|value| authorization_credential(value.as_bytes()));
    let parameter = query.and_then(|query| {
        let key = query.split('&').find_map(|pair| pair.strip_prefix("key="));
        key.map(|key| key.as_bytes().to_vec())
    });
    keys.chain(authorization).chain(parameter).collect()
}

/// The credential in an `Authorization` value: a bearer token, GitHub's `token`,
/// or the password of Basic, which is where git puts it.
fn authorization_credential(value: &[u8]) -> Option<Vec<u8>> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, credential) = (&value[..space], value[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") || scheme.eq_ignore_ascii_case(b"token") {
        return Some(credential.to_vec());
    }
    if scheme.eq_ignore_ascii_case(b"basic") {
        let pair = BASE64.decode(credential).ok()?;
        let colon = pair.iter().position(|byte| *byte == b':')?;
        let password = &pair[colon + 1..];
        // RFC 7617, section 2, allows no control characters.
        let is_password = !password.iter().any(u8::is_ascii_control);
        return is_password.then(|| password.to_vec());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_no_control_characters() {
        let basic = |pair: &str| {
            let value = format!("Basic {}", BASE64.encode(pair));
            authorization_credential(value.as_bytes())
        };
        assert_eq!(basic("x:pass:word"), Some(b"pass:word".to_vec()));
        for pair in ["x:pass\nword", "x:password\0", "x:\x7f"] {
            assert_eq!(basic(pair), None, "{pair:?}");
        }
    }
}
