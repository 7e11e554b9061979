//! The one reading of a request's path.
//!
//! A path is matched against the rules and sent to the upstream as the same
//! bytes. What two programs could read differently is refused, never repaired.

use http::Uri;

/// A request target that two programs could read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct AmbiguousTarget(&'static str);

impl AmbiguousTarget {
    /// A fixed phrase for the refusal.
    pub(crate) const fn reason(self) -> &'static str {
        self.0
    }
}

/// Checks that a request target has exactly one reading.
///
/// # Errors
/// The path is not in origin form, or holds what another parser could read
/// differently: dot segments, empty segments, encoded separators, a backslash,
/// path parameters, NUL, or an encoded percent sign (double encoding).
pub(crate) fn check(uri: &Uri) -> Result<(), AmbiguousTarget> {
    let path = uri.path();
    if !path.starts_with('/') {
        return Err(AmbiguousTarget("the target is not a path"));
    }
    check_bytes(path.as_bytes())?;
    let segments = path[1..].split('/');
    let last = segments.clone().count() - 1;
    for (position, segment) in segments.enumerate() {
        // Only the end of a path may be empty: "/v1/models/".
        if segment.is_empty() && position != last {
            return Err(AmbiguousTarget("the path has an empty segment"));
        }
        if segment == "." || segment == ".." {
            return Err(AmbiguousTarget("the path has a dot segment"));
        }
    }
    match uri.query() {
        Some(query) if !query.bytes().all(is_visible) => Err(AmbiguousTarget(
            "the query has a byte that is not visible ASCII",
        )),
        _ => Ok(()),
    }
}

fn check_bytes(path: &[u8]) -> Result<(), AmbiguousTarget> {
    for (at, &byte) in path.iter().enumerate() {
        match byte {
            b'\\' | b';' => {
                return Err(AmbiguousTarget("the path has a backslash or a semicolon"));
            }
            b'%' => check_escape(path.get(at + 1..at + 3))?,
            _ if !is_visible(byte) => {
                return Err(AmbiguousTarget(
                    "the path has a byte that is not visible ASCII",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The value of two hexadecimal digits.
fn hex_pair(digits: &[u8]) -> Option<u8> {
    let [high, low] = *digits else { return None };
    let high = char::from(high).to_digit(16)?;
    let low = char::from(low).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

fn check_escape(digits: Option<&[u8]>) -> Result<(), AmbiguousTarget> {
    match digits.and_then(hex_pair) {
        None => Err(AmbiguousTarget("the path has an incomplete escape")),
        Some(b'.' | b'/' | b'\\' | b';' | b'%' | b'?' | b'#' | 0..=0x1f | 0x7f) => Err(
            AmbiguousTarget("the path has an escape that other programs read differently"),
        ),
        Some(_) => Ok(()),
    }
}

const fn is_visible(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::headers::percent_decode;
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
                let once = percent_decode(&target);
                let twice = percent_decode(&String::from_utf8_lossy(&once));
                prop_assert_eq!(&once, &twice);
                let separators = |b: &[u8]| b.iter().filter(|b| **b == b'/').count();
                prop_assert_eq!(separators(&once), separators(target.as_bytes()));
                let path = String::from_utf8_lossy(&once).into_owned();
                prop_assert!(!path.split('/').any(|s| s == "." || s == ".."), "{}", path);
            }
        }
    }
}
