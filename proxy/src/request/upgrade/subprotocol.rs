//! Keys among the subprotocols that a WebSocket client offers.
//!
//! A browser can send no headers of its own with a WebSocket, so services take
//! the key there instead: `openai-insecure-api-key.KEY`, `token, KEY`,
//! `base64url.bearer.authorization.k8s.io.KEY`. An agent that brings a key of
//! its own could send what it reads to an account of its own.

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue};

/// Words that, within the name of a subprotocol, tell that a credential follows
/// in the same item, or in the next one when nothing else is in this one.
const MARKS: [&str; 12] = [
    "apikey",
    "token",
    "bearer",
    "authorization",
    "auth",
    "basic",
    "secret",
    "password",
    "credential",
    "jwt",
    "cookie",
    "session",
];

/// The longest item that is taken for a name. The longest that IANA has
/// registered and that carry no value are shorter; keys are longer.
const LONGEST_NAME: usize = 32;

/// The longest run of letters and digits in a name. Names are words between
/// dots and dashes; a key is one long run.
const LONGEST_WORD: usize = 19;

/// Removes the subprotocols that carry a credential, and keeps the others in
/// their order: the upstream chooses among those.
pub(super) fn remove_credentials(headers: &mut HeaderMap) {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return;
    }
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let items = offered.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut is_value = false;
    let mut kept = Vec::new();
    for item in items.map(<[u8]>::trim_ascii).filter(|i| !i.is_empty()) {
        let is_name = is_name(item) && !is_value;
        is_value = is_lone_mark(item);
        if is_name {
            kept.push(item);
        }
    }
    // Joined from valid values, the list is a valid value; none is the safe side.
    let list = HeaderValue::from_bytes(&kept.join(&b", "[..])).ok();
    match list.filter(|list| !list.is_empty()) {
        Some(list) => headers.insert(SEC_WEBSOCKET_PROTOCOL, list),
        None => headers.remove(SEC_WEBSOCKET_PROTOCOL),
    };
}

/// Whether an item cannot be anything but the name of a protocol.
fn is_name(item: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut words = item.split(|byte| !is_word(byte));
    let text = letters(item);
    item.len() <= LONGEST_NAME
        && words.all(|word| word.len() <= LONGEST_WORD)
        && !item.starts_with(b"sk-")
        && !item.starts_with(b"header-")
        && text != "key"
        && !MARKS.iter().any(|mark| text.contains(mark))
}

/// Whether an item is a mark and nothing else, so that the next item is the
/// credential: `token, KEY`.
fn is_lone_mark(item: &[u8]) -> bool {
    let text = letters(item);
    let rest = text.strip_prefix('x').unwrap_or(&text);
    let is_mark = |word: &str| word == "key" || MARKS.contains(&word);
    is_mark(&text) || is_mark(rest) || text == "accesstoken" || text == "authtoken"
}

/// The letters and digits of an item in lower case: `X-Api_Key` is `xapikey`.
fn letters(item: &[u8]) -> String {
    let kept = item.iter().filter(|byte| byte.is_ascii_alphanumeric());
    kept.map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The remaining offers, in any number of header lines.
    fn kept(offered: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in offered {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value));
        }
        remove_credentials(&mut headers);
        assert!(headers.len() <= 1);
        let kept = headers.get(SEC_WEBSOCKET_PROTOCOL);
        kept.map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn class_05_subprotocols_that_carry_a_key_go() {
        for offered in [
            "openai-insecure-api-key.attacker",
            "OpenAI-Insecure-API-Key.sk-proj-attacker",
            "base64url.bearer.authorization.k8s.io.YXR0YWNrZXI",
            "token, attacker",
            "Bearer,attacker",
            "access_token, attacker",
            "x-api-key, attacker",
            "key, attacker",
            "token.attacker",
            "jwt-attacker",
            "header-eyJ4LWFwaS1rZXkiOiJhIn0",
            "sk-attacker",
            "dbs_0123456789abcdef0123456789",
            "0123456789abcdef0123456789abcdef",
            "01234567-89ab-cdef-0123-456789abcdef",
            "attackerattackerattacker",
        ] {
            assert_eq!(kept(&[offered]), None, "{offered}");
        }
        assert_eq!(kept(&["token", "attacker, chat"]).as_deref(), Some("chat"));
    }

    #[test]
    fn the_other_subprotocols_stay_in_their_order() {
        for offered in [
            "realtime",
            "chat, superchat",
            "graphql-transport-ws, graphql-ws",
            "openai-beta.realtime-v1",
            "v4.channel.k8s.io, base64.binary.k8s.io",
            "ocpp2.0.1, mqtt, wamp.2.json, soap, v12.stomp",
            "lws-mirror-protocol, UA/1.0, opcua+uacp",
        ] {
            assert_eq!(kept(&[offered]).as_deref(), Some(offered));
        }
        let offered = [
            "realtime, openai-insecure-api-key.attacker",
            "openai-beta.realtime-v1",
        ];
        assert_eq!(
            kept(&offered).as_deref(),
            Some("realtime, openai-beta.realtime-v1")
        );
        assert_eq!(kept(&[]), None);
    }
}
