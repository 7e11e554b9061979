//! Reading JSON that other programs wrote, without losing a message over it.

use serde::de::DeserializeOwned;

/// Parses one JSON document from bytes that may hold invalid UTF-8 or escaped
/// lone surrogates.
///
/// JavaScript programs write strings that are not valid Unicode as lone
/// surrogates (`"\ud800"`), which RFC 8259 section 8.2 leaves undefined and
/// `serde_json` refuses. Dropping such a document would lose a result, so each
/// lone surrogate and each invalid byte sequence becomes U+FFFD instead.
///
/// # Errors
/// The text is not JSON, or not of the expected shape.
pub fn from_slice_lossy<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes).or_else(|first_error| {
        let text = String::from_utf8_lossy(bytes);
        serde_json::from_str(&replace_lone_surrogates(&text)).map_err(|_| first_error)
    })
}

/// Rewrites each `\uD800` to `\uDFFF` escape that has no partner to `\uFFFD`.
fn replace_lone_surrogates(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match unicode_escape(rest) {
            Some(0xD800..=0xDBFF) if is_low_surrogate(&rest[6..]) => 12,
            Some(0xD800..=0xDFFF) => {
                out.push_str("\\uFFFD");
                rest = &rest[6..];
                continue;
            }
            Some(_) => 6,
            // The escaped character may be of any width.
            None => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out.push_str(rest);
    out
}

fn is_low_surrogate(text: &str) -> bool {
    matches!(unicode_escape(text), Some(0xDC00..=0xDFFF))
}

fn unicode_escape(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> String {
        from_slice_lossy(text.as_bytes()).unwrap()
    }

    #[test]
    fn lone_surrogates_become_replacement_characters() {
        assert_eq!(read(r#""a\ud800b""#), "a\u{fffd}b");
        assert_eq!(read(r#""\udc00\ud83d\ude00\ud83d""#), "\u{fffd}😀\u{fffd}");
        assert_eq!(read(r#""\ud800\ud800\udc00""#), "\u{fffd}\u{10000}");
    }

    #[test]
    fn an_escaped_backslash_before_u_is_not_an_escape() {
        assert_eq!(read(r#""\\ud800 \ud800""#), "\\ud800 \u{fffd}");
    }

    #[test]
    fn nul_and_invalid_utf8_survive() {
        assert_eq!(read(r#""a\u0000b""#), "a\0b");
        let text: String = from_slice_lossy(b"\"a\xffb\"").unwrap();
        assert_eq!(text, "a\u{fffd}b");
    }

    #[test]
    fn what_is_not_json_stays_an_error() {
        from_slice_lossy::<String>(br#""\ud800"#).unwrap_err();
        from_slice_lossy::<String>(br#""\ud8"#).unwrap_err();
        from_slice_lossy::<String>("\"\\".as_bytes()).unwrap_err();
    }

    proptest! {
        #[test]
        fn any_utf16_written_by_a_javascript_program_is_read_as_it_would_be_shown(
            units in proptest::collection::vec(prop_oneof![any::<u16>(), 0xD700u16..0xE100], 0..40)
        ) {
            let escaped: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let expected = String::from_utf16_lossy(&units);
            prop_assert_eq!(read(&format!("\"{escaped}\"")), expected);
        }
    }
}
