//! Routes: which upstream a path leads to, and what is allowed on the way.

use std::fmt;
use std::str::FromStr;

use http::{Method, StatusCode};
use serde_json::json;

/// Name of a route, and the first segment of paths that select it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteName(String);

/// Why a text is not a route name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "route name {0:?} is not valid: 1 to 40 lower-case letters, digits and dashes, the first a \
     letter, and none of \"api\", \"v1\", \"v1beta\", which begin paths of the default route"
)]
pub struct InvalidRouteName(String);

impl RouteName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RouteName {
    type Err = InvalidRouteName;

    fn from_str(text: &str) -> Result<Self, InvalidRouteName> {
        let is_valid = (1..=40).contains(&text.len())
            && text.as_bytes()[0].is_ascii_lowercase()
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !["api", "v1", "v1beta"].contains(&text);
        if is_valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidRouteName(text.chars().take(60).collect()))
        }
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One allowed combination of methods and paths, written
/// `POST,PUT /v1/messages`, with `*` for any method.
///
/// In the path `*` stands for any text within one segment and `**` for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `None` is any method.
    methods: Option<Vec<Method>>,
    path: String,
}

/// Why a text is not a rule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "rule {0:?} is not valid: write methods and a path, such as \"POST /v1/messages\", \
     \"GET,HEAD /v1/models/*\" or \"* /repos/**\""
)]
pub struct InvalidRule(String);

impl Rule {
    /// Whether the rule allows a request.
    #[must_use]
    pub fn allows(&self, method: &Method, path: &str) -> bool {
        let methods = self.methods.as_ref();
        methods.is_none_or(|methods| methods.contains(method))
            && matches_glob(self.path.as_bytes(), path.as_bytes())
    }
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let invalid = || InvalidRule(text.chars().take(200).collect());
        let (methods, path) = text.split_once(' ').ok_or_else(invalid)?;
        let is_path = path.starts_with('/') && path.bytes().all(|b| matches!(b, 0x21..=0x7e));
        if !is_path {
            return Err(invalid());
        }
        let methods = if methods == "*" {
            None
        } else {
            let parse = |name: &str| {
                let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase());
                is_name.then(|| Method::from_bytes(name.as_bytes()).ok())?
            };
            let methods: Option<Vec<_>> = methods.split(',').map(parse).collect();
            Some(methods.ok_or_else(invalid)?)
        };
        Ok(Self {
            methods,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.methods {
            None => f.write_str("*")?,
            Some(methods) => {
                let names: Vec<_> = methods.iter().map(Method::as_str).collect();
                f.write_str(&names.join(","))?;
            }
        }
        write!(f, " {}", self.path)
    }
}

/// Matches with `*` for any text without a slash and `**` for any text.
///
/// Patterns come from the configuration and paths from clients, so the matcher
/// goes back to the last star only: its work is bounded by the product of the
/// two lengths.
fn matches_glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to resume: (pattern after the star, text it has swallowed to).
    let (mut star, mut deep_star) = (None, None);
    loop {
        if pattern[p..].starts_with(b"**") {
            p += 2;
            deep_star = Some((p, t));
            star = None;
        } else if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
        } else if t == text.len() && p == pattern.len() {
            return true;
        } else if t < text.len() && pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((after, swallowed)) =
            star.filter(|(_, s)| *s < text.len() && text[*s] != b'/')
        {
            star = Some((after, swallowed + 1));
            (p, t) = (after, swallowed + 1);
        } else if let Some((after, swallowed)) = deep_star.filter(|(_, s)| *s < text.len()) {
            deep_star = Some((after, swallowed + 1));
            star = None;
            (p, t) = (after, swallowed + 1);
        } else {
            return false;
        }
    }
}

/// In whose JSON shape a route's clients read errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"type":"error","error":{"type":..,"message":..}}`
    #[default]
    Anthropic,
    /// `{"error":{"message":..,"type":..,"code":..}}`
    OpenAi,
    /// `{"error":{"code":..,"message":..,"status":..}}`
    Gemini,
    /// `{"message":..}`
    GitHub,
}

impl ErrorShape {
    /// The body of an error answer.
    pub(crate) fn render(self, status: StatusCode, message: &str) -> String {
        let message = format!("drawbridge: {message}");
        let kind = error_type(status);
        let body = match self {
            Self::Anthropic => {
                json!({"type": "error", "error": {"type": kind, "message": message}})
            }
            Self::OpenAi => {
                json!({"error": {"message": message, "type": kind, "param": null, "code": kind}})
            }
            Self::Gemini => json!({"error": {
                "code": status.as_u16(), "message": message, "status": kind.to_uppercase(),
            }}),
            Self::GitHub => json!({"message": message, "status": status.as_str()}),
        };
        body.to_string()
    }
}

/// Anthropic's name for a kind of error.
const fn error_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(text: &str) -> Rule {
        text.parse().unwrap()
    }

    #[test]
    fn rules_match_methods_and_segments() {
        for (text, method, path, expected) in [
            ("POST /v1/messages", Method::POST, "/v1/messages", true),
            ("POST /v1/messages", Method::GET, "/v1/messages", false),
            (
                "POST /v1/messages",
                Method::POST,
                "/v1/messages/batches",
                false,
            ),
            ("GET /v1/models/*", Method::GET, "/v1/models/claude", true),
            (
                "GET /v1/models/*",
                Method::GET,
                "/v1/models/claude/x",
                false,
            ),
            ("GET /v1/models/*", Method::GET, "/v1/models", false),
            ("* /repos/**", Method::DELETE, "/repos/a/b/c", true),
            ("* /repos/**", Method::GET, "/repo", false),
            (
                "GET,HEAD /*/*.git/info/refs",
                Method::HEAD,
                "/o/r.git/info/refs",
                true,
            ),
            (
                "GET,HEAD /*/*.git/info/refs",
                Method::GET,
                "/o/x/r.git/info/refs",
                false,
            ),
            (
                "POST /v1beta/models/*:generateContent",
                Method::POST,
                "/v1beta/models/g:generateContent",
                true,
            ),
            ("* /**/x", Method::GET, "/a/b/x", true),
            ("* /**/x", Method::GET, "/a/b/y", false),
        ] {
            assert_eq!(rule(text).allows(&method, path), expected, "{text} {path}");
        }
    }

    #[test]
    fn what_is_not_a_rule_is_refused() {
        for bad in [
            "",
            "/v1",
            "GET",
            "get /v1",
            "GET v1",
            " /v1",
            "GET,, /v1",
            "GET /a b",
            ", /",
        ] {
            bad.parse::<Rule>().unwrap_err();
        }
    }

    #[test]
    fn a_rule_is_printed_as_it_was_written() {
        for text in ["POST /v1/messages", "GET,HEAD /a/*", "* /**"] {
            assert_eq!(rule(text).to_string(), text);
        }
    }

    #[test]
    fn route_names_cannot_hide_paths_of_the_default_route() {
        for bad in ["", "v1", "api", "A", "1a", "a/b", "a.b", "-a"] {
            bad.parse::<RouteName>().unwrap_err();
        }
        "anthropic-2".parse::<RouteName>().unwrap();
    }

    #[test]
    fn every_shape_is_json_with_the_message() {
        let shapes = [
            ErrorShape::Anthropic,
            ErrorShape::OpenAi,
            ErrorShape::Gemini,
            ErrorShape::GitHub,
        ];
        let bodies = shapes.map(|shape| shape.render(StatusCode::FORBIDDEN, "no \"x\""));
        insta::assert_snapshot!(bodies.join("\n"));
    }

    /// The obvious matcher, exponential but right.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|n| naive(rest, &text[n..])),
            [b'*', rest @ ..] => (0..=text.len())
                .take_while(|n| !text[..*n].contains(&b'/'))
                .any(|n| naive(rest, &text[n..])),
            [byte, rest @ ..] => text.first() == Some(byte) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn class_08_the_matcher_agrees_with_the_obvious_one(
            pattern in "[ab/*]{0,8}", text in "[ab/]{0,8}"
        ) {
            // Three stars in a row have no meaning of their own.
            prop_assume!(!pattern.contains("***"));
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches_glob(pattern, text), naive(pattern, text));
        }
    }
}
