//! Rules, route names and upstream URLs, one per line, and a path to match.

#![no_main]

use drawbridge_proxy::{RouteName, Rule, Upstream};
use http::Method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let path = lines.next().unwrap_or_default();
    for line in lines {
        if let Ok(rule) = line.parse::<Rule>() {
            let again: Rule = rule.to_string().parse().expect("a printed rule is a rule");
            assert_eq!(rule, again);
            let pattern = line.split_once(' ').expect("a rule has a path").1;
            let is_small = path.len() <= 24 && pattern.len() <= 12 && !pattern.contains("***");
            let method = Method::GET;
            let is_any = line.starts_with("* ");
            let is_matched = rule.allows(&method, path);
            if is_any && is_small {
                assert_eq!(is_matched, matches(pattern.as_bytes(), path.as_bytes()), "{line} {path}");
            }
        }
        if let Ok(name) = line.parse::<RouteName>() {
            assert!(!name.as_str().contains(['/', '.', '%']));
        }
        if let Ok(upstream) = Upstream::parse(line, false) {
            let host = upstream.host();
            assert!(!host.contains(['%', '@', '\\', ' ', '/', '?', '#']), "{host}");
            assert!(!host.ends_with('.'), "{host}");
            assert!(!upstream.authority().contains('@'));
        }
    }
});

/// The obvious matcher, exponential but right.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=text.len()).any(|n| matches(rest, &text[n..])),
        [b'*', rest @ ..] => (0..=text.len())
            .take_while(|n| !text[..*n].contains(&b'/'))
            .any(|n| matches(rest, &text[n..])),
        [byte, rest @ ..] => text.first() == Some(byte) && matches(rest, &text[1..]),
    }
}
