//! Headers and parameters that are removed from a request before injection.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers that belong to one hop: RFC 9110 section 7.6.1 and the older ones
/// still in use. Not a `const`, which would be built and dropped at each use.
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("http2-settings"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Request headers in which a credential can travel. An agent that brings a key
/// of its own could send what it reads to an account of its own, so all of them
/// are removed, whichever one the route injects.
static CREDENTIALS: [HeaderName; 12] = [
    AUTHORIZATION,
    COOKIE,
    HeaderName::from_static("cookie2"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("apikey"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("x-auth-token"),
    HeaderName::from_static("x-access-token"),
    HeaderName::from_static("x-github-token"),
    HeaderName::from_static("private-token"),
    HeaderName::from_static("x-amz-security-token"),
];

/// Query parameters in which a credential can travel, in lower case.
const CREDENTIAL_PARAMETERS: [&str; 7] = [
    "key",
    "api_key",
    "api-key",
    "apikey",
    "access_token",
    "auth_token",
    "oauth_token",
];

/// Removes the headers of this hop, then every header that can carry a
/// credential. Injection comes after: a client that names a header in
/// `Connection` must not be able to take away what the proxy adds.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    // The server side has answered `Expect`; the upstream sees a body that is
    // coming.
    remove_all(headers, |name| {
        CREDENTIALS.contains(name) || *name == EXPECT || *name == HOST
    });
}

/// Removes the headers of the upstream's hop, and the cookies it sets: a cookie
/// is a credential of the account that the agent must not hold.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(SET_COOKIE);
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named = connection_options(headers);
        for name in named {
            headers.remove(name);
        }
    }
    remove_all(headers, |name| HOP_BY_HOP.contains(name));
}

/// Removes the headers of which this holds. Few are there, so to compare names
/// is faster than to search for each possible one.
fn remove_all(headers: &mut HeaderMap, is_removed: impl Fn(&HeaderName) -> bool) {
    let present: Vec<_> = headers
        .keys()
        .filter(|name| is_removed(name))
        .cloned()
        .collect();
    for name in present {
        headers.remove(name);
    }
}

/// Header names listed in `Connection`. The ones that frame or address the
/// message are not the client's to remove.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != CONTENT_LENGTH && *name != HOST)
        .collect()
}

/// Whether a header frames or addresses messages, so that no secret can be put
/// there.
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name) || [HOST, CONTENT_LENGTH, EXPECT].contains(name)
}

/// The query without parameters that can carry a credential, and without the
/// one that the route injects; `None` when there is nothing to remove, which is
/// nearly always.
pub(crate) fn without_credential_parameters(query: &str, injected: Option<&str>) -> Option<String> {
    let is_removed = |pair: &str| {
        is_named(pair, &CREDENTIAL_PARAMETERS)
            || injected.is_some_and(|injected| is_named(pair, &[injected]))
    };
    if !query.split('&').any(is_removed) {
        return None;
    }
    let kept: Vec<_> = query.split('&').filter(|pair| !is_removed(pair)).collect();
    Some(kept.join("&"))
}

/// Whether a `name=value` pair of a query has one of these names, however it is
/// spelt: upstreams decode it before they compare.
fn is_named(pair: &str, names: &[&str]) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    if !name.contains('%') && !name.contains('+') {
        return names.iter().any(|known| known.eq_ignore_ascii_case(name));
    }
    let decoded = percent_decode(name);
    let decoded = decoded.trim_ascii();
    let mut names = names.iter();
    names.any(|known| known.as_bytes().eq_ignore_ascii_case(decoded))
}

/// Decodes `%xx` and `+`; what is not a valid escape stays as it is.
pub(crate) fn percent_decode(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).collect()
}

/// Adds an item to a comma-separated list header unless it is there already.
pub(crate) fn add_list_item(headers: &mut HeaderMap, name: &HeaderName, item: &'static str) {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    let mut items = values.iter().flat_map(|value| value.split(|b| *b == b','));
    if items.any(|present| present.trim_ascii() == item.as_bytes()) {
        return;
    }
    let mut list = values.join(&b',');
    if !list.is_empty() {
        list.push(b',');
    }
    list.extend_from_slice(item.as_bytes());
    // Joined from valid values, the list is a valid value.
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(list)) {
        headers.insert(name.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn class_10_headers_named_in_connection_go_and_framing_stays() {
        let mut headers = map(&[
            ("connection", "close, x-drop , Content-Length"),
            ("connection", "anthropic-beta"),
            ("x-drop", "1"),
            ("anthropic-beta", "a"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic x"),
            ("accept", "*/*"),
        ]);
        strip_request(&mut headers);
        assert_eq!(names(&headers), ["content-length", "accept"]);
    }

    #[test]
    fn class_05_every_place_for_a_credential_is_emptied() {
        let mut headers = map(&[
            ("authorization", "Bearer attacker"),
            ("authorization", "Basic attacker"),
            ("x-api-key", "attacker"),
            ("x-goog-api-key", "attacker"),
            ("cookie", "session=attacker"),
            ("api-key", "attacker"),
            ("private-token", "attacker"),
            ("anthropic-version", "2023-06-01"),
        ]);
        strip_request(&mut headers);
        assert_eq!(names(&headers), ["anthropic-version"]);
    }

    #[test]
    fn class_05_query_credentials_go_in_every_spelling() {
        for query in [
            "key=x",
            "KEY=x",
            "%6bey=x",
            "key",
            "api_key=1",
            "%20key=x",
            "+key=x",
        ] {
            assert_eq!(
                without_credential_parameters(query, None).as_deref(),
                Some(""),
                "{query}"
            );
        }
        assert_eq!(
            without_credential_parameters("a=1&key=x&b=%2F", None).as_deref(),
            Some("a=1&b=%2F")
        );
        assert_eq!(
            without_credential_parameters("beta=true&monkey=1", None),
            None
        );
        assert_eq!(
            without_credential_parameters("sig=x&a=1", Some("sig")).as_deref(),
            Some("a=1")
        );
    }

    #[test]
    fn class_20_the_upstreams_cookies_do_not_reach_the_agent() {
        let mut headers = map(&[("set-cookie", "a=b"), ("request-id", "1")]);
        strip_response(&mut headers);
        assert_eq!(names(&headers), ["request-id"]);
    }

    #[test]
    fn a_list_item_is_added_once() {
        let beta = HeaderName::from_static("anthropic-beta");
        let mut headers = map(&[("anthropic-beta", "a, oauth-2025-04-20")]);
        add_list_item(&mut headers, &beta, "oauth-2025-04-20");
        assert_eq!(headers.get_all(&beta).iter().count(), 1);
        add_list_item(&mut headers, &beta, "b");
        assert_eq!(headers[&beta], "a, oauth-2025-04-20,b");
        headers.clear();
        add_list_item(&mut headers, &beta, "b");
        assert_eq!(headers[&beta], "b");
    }

    proptest! {
        #[test]
        fn class_05_no_decoded_credential_parameter_survives(query in "[a-zA-Z0-9%&=+_.-]{0,40}") {
            let kept = without_credential_parameters(&query, None).unwrap_or(query);
            for pair in kept.split('&') {
                let name = percent_decode(pair.split('=').next().unwrap_or_default());
                let name = String::from_utf8_lossy(&name).trim().to_ascii_lowercase();
                prop_assert!(!CREDENTIAL_PARAMETERS.contains(&name.as_str()), "{kept}");
            }
        }
    }
}
