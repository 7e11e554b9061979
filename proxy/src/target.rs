//! The one reading of a request's path.
//!
//! A path is matched against the rules and sent to the upstream as the same
//! bytes. What two programs could read differently is refused, never repaired.

use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Uri, Version};
use zeroize::Zeroizing;

use crate::credential::Secret;
use crate::error::Refusal;
use crate::headers::{self, hex_pair};
use crate::table::{Route, RouteTable};

/// Checks that a request target has exactly one reading.
///
/// # Errors
/// The path is not in origin form, or holds what another parser could read
/// differently: dot segments, empty segments, encoded separators, a backslash,
/// path parameters, NUL, or an encoded percent sign (double encoding).
pub(crate) fn check(uri: &Uri) -> Result<(), Refusal> {
    let path = uri.path();
    if !path.starts_with('/') {
        return Err(Refusal::Malformed("the target is not a path"));
    }
    check_bytes(path.as_bytes())?;
    let segments = path[1..].split('/');
    let last = segments.clone().count() - 1;
    for (position, segment) in segments.enumerate() {
        // Only the end of a path may be empty: "/v1/models/".
        if segment.is_empty() && position != last {
            return Err(Refusal::Malformed("the path has an empty segment"));
        }
        if segment == "." || segment == ".." {
            return Err(Refusal::Malformed("the path has a dot segment"));
        }
    }
    match uri.query() {
        Some(query) if !query.bytes().all(is_visible) => Err(Refusal::Malformed(
            "the query has a byte that is not visible ASCII",
        )),
        _ => Ok(()),
    }
}

fn check_bytes(path: &[u8]) -> Result<(), Refusal> {
    for (at, &byte) in path.iter().enumerate() {
        match byte {
            b'\\' | b';' => {
                return Err(Refusal::Malformed(
                    "the path has a backslash or a semicolon",
                ));
            }
            b'%' => check_escape(path.get(at + 1..at + 3))?,
            _ if !is_visible(byte) => {
                return Err(Refusal::Malformed(
                    "the path has a byte that is not visible ASCII",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_escape(digits: Option<&[u8]>) -> Result<(), Refusal> {
    match digits.and_then(hex_pair) {
        None => Err(Refusal::Malformed("the path has an incomplete escape")),
        Some(b'.' | b'/' | b'\\' | b';' | b'%' | b'?' | b'#' | 0..=0x1f | 0x7f) => Err(
            Refusal::Malformed("the path has an escape that other programs read differently"),
        ),
        Some(_) => Ok(()),
    }
}

const fn is_visible(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e)
}

/// The target to send: the route's base path, then the same bytes of the path
/// that were matched against its rules, then the query without credentials but
/// the one that the route puts there.
pub(crate) fn upstream_uri(
    uri: &Uri,
    path_start: usize,
    route: &Route,
    secret: &Secret,
) -> Result<Uri, Refusal> {
    let parameter = route.injected_parameter();
    let stripped = uri
        .query()
        .and_then(|query| headers::without_credential_parameters(query, parameter));
    let base = route.base_path();
    let is_unchanged =
        path_start == 0 && base.is_empty() && stripped.is_none() && parameter.is_none();
    if let (true, Some(target)) = (is_unchanged, uri.path_and_query()) {
        return Ok(Uri::from(target.clone()));
    }
    let mut target = Zeroizing::new([base, &uri.path()[path_start..]].concat());
    let query = stripped.as_deref().or_else(|| uri.query());
    let mut separator = '?';
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        target.push(separator);
        target.push_str(query);
        separator = '&';
    }
    if let Some(name) = parameter {
        target.push(separator);
        target.push_str(name);
        target.push('=');
        target.push_str(&secret.query());
    }
    PathAndQuery::try_from(target.as_str())
        .map(Uri::from)
        .map_err(|_| Refusal::Malformed("the target is not valid"))
}

/// Checks that a request is addressed to where its route leads.
///
/// In base-URL use `Host` names the proxy itself, by whatever name the container
/// reaches it. It may not name another route's upstream, and a target in
/// absolute form, which is for proxies, has to name this route's.
///
/// # Errors
/// Target, `Host` and route disagree.
pub(crate) fn check_host(head: &Parts, route: &Route, table: &RouteTable) -> Result<(), Refusal> {
    let host = head.headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = head.uri.authority().map(Authority::as_str);
    let (Some(host), Some(authority)) = (host, authority) else {
        let named = host.or_else(|| authority.map(str::as_bytes));
        return named.map_or(Ok(()), |named| check_name(named, route, table));
    };
    if !host.eq_ignore_ascii_case(authority.as_bytes()) {
        return Err(Refusal::WrongHost);
    }
    let is_absolute_form = head.version < Version::HTTP_2;
    if is_absolute_form && !route.upstream().has_authority(host) {
        return Err(Refusal::WrongHost);
    }
    check_name(host, route, table)
}

fn check_name(named: &[u8], route: &Route, table: &RouteTable) -> Result<(), Refusal> {
    let mut others = table.routes().iter().map(Route::upstream);
    let is_this = route.upstream().has_authority(named);
    if !is_this && others.any(|other| other.has_authority(named)) {
        return Err(Refusal::WrongHost);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_accepted(target: &str) -> bool {
        target.parse::<Uri>().is_ok_and(|uri| check(&uri).is_ok())
    }

    #[test]
    fn class_08_ambiguous_paths_are_refused() {
        for bad in [
            "/v1/../files",
            "/v1/./messages",
            "/..",
            "/.",
            "/v1/%2e%2e/files",
            "/v1/%2E./x",
            "/v1%2fmessages",
            "/v1%2Fmessages",
            "/v1%5cmessages",
            "/v1\\messages",
            "//v1/messages",
            "/v1//messages",
            "/v1/messages;x=1",
            "/v1/messages%3bx",
            "/v1/%00",
            "/v1/%0a",
            "/v1/%252e%252e",
            "/v1/%25",
            "/v1/%",
            "/v1/%2",
            "/v1/%zz",
            "/v1/%3fx",
            "*",
        ] {
            assert!(!is_accepted(bad), "{bad}");
        }
    }

    #[test]
    fn plain_paths_pass() {
        for good in [
            "/",
            "/v1/messages",
            "/v1/messages?beta=true&x=%2F..",
            "/v1/models/",
            "/a/b.c/..d",
            "/v1/models/claude%20x",
            "/v1beta/models/gemini-2.5-pro:generateContent",
            "/a@b",
        ] {
            assert!(is_accepted(good), "{good}");
        }
    }

    proptest! {
        #[test]
        fn class_08_an_accepted_path_means_the_same_decoded_once_or_twice(
            target in "/([a-z./\\\\;%2efF50]|%2e|%2f|%5c|%25|%00){0,24}"
        ) {
            if is_accepted(&target) {
                let once = headers::percent_decode(&target);
                let twice = headers::percent_decode(&String::from_utf8_lossy(&once));
                prop_assert_eq!(&once, &twice);
                let separators = |b: &[u8]| b.iter().filter(|b| **b == b'/').count();
                prop_assert_eq!(separators(&once), separators(target.as_bytes()));
                let path = String::from_utf8_lossy(&once).into_owned();
                prop_assert!(!path.split('/').any(|s| s == "." || s == ".."), "{}", path);
            }
        }
    }
}
