//! The forms in which an upstream may echo a secret.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// Shorter encoded forms are left out: they would match ordinary text, and
/// what they could show is a secret of five bytes.
const SHORTEST_ENCODED: usize = 8;

/// A piece of text that is part of a secret.
type Form = Zeroizing<Vec<u8>>;

/// Every form of one secret that is hidden: raw, base64, percent-encoded,
/// JSON-escaped, hexadecimal. The raw one comes first. Forms that are the same
/// for this secret (a key of letters and digits needs no escapes) come once.
#[must_use]
pub(crate) fn forms(secret: &[u8]) -> Vec<Form> {
    if secret.is_empty() {
        return Vec::new();
    }
    let mut all = vec![Zeroizing::new(secret.to_vec())];
    let encoded = base64_forms(secret)
        .chain(percent_forms(secret))
        .chain(json_forms(secret))
        .chain(hex_forms(secret));
    for form in encoded {
        if form.len() >= SHORTEST_ENCODED && !all.contains(&form) {
            all.push(form);
        }
    }
    all
}

/// Where a secret is part of a longer encoded text, it begins at byte 0, 1 or 2
/// of a group of three. The characters it shares with its neighbours are not
/// part of the form: they hold at most four bits of its first and last byte.
fn base64_forms(secret: &[u8]) -> impl Iterator<Item = Form> + '_ {
    [STANDARD_NO_PAD, URL_SAFE_NO_PAD]
        .into_iter()
        .flat_map(move |engine| {
            (0..3).map(move |before| {
                let mut text = Zeroizing::new(vec![0; before]);
                text.extend_from_slice(secret);
                let encoded = Zeroizing::new(engine.encode(&*text));
                let first = (before * 8).div_ceil(6).min(encoded.len());
                let end = (text.len() * 8 / 6).max(first);
                Zeroizing::new(encoded.as_bytes()[first..end].to_vec())
            })
        })
}

fn percent_forms(secret: &[u8]) -> impl Iterator<Item = Form> + '_ {
    /// Bytes that a writer of URLs leaves as they are, besides letters and digits.
    const KEPT: [&[u8]; 5] = [
        b"-_.~",                 // RFC 3986, unreserved
        b"-_.~!'()*",            // encodeURIComponent
        b"-_.~!$&'()*+,;=:@",    // a path segment
        b"-_.~!$&'()*+,;=:@/?#", // encodeURI
        b"*-._",                 // form data
    ];
    let some = KEPT.into_iter().flat_map(move |kept| {
        [Case::Upper, Case::Lower].map(|case| {
            escape(secret, |out, byte| match byte {
                _ if byte.is_ascii_alphanumeric() || kept.contains(&byte) => out.push(byte),
                _ => case.push(out, "%", 2, byte),
            })
        })
    });
    let all = [Case::Upper, Case::Lower]
        .into_iter()
        .map(move |case| escape(secret, |out, byte| case.push(out, "%", 2, byte)));
    some.chain(all)
}

fn json_forms(secret: &[u8]) -> impl Iterator<Item = Form> + '_ {
    /// Bytes that a writer of JSON escapes, besides those that it must.
    const ALSO: [&[u8]; 4] = [
        b"",
        b"<>&",       // Go
        b"<>&'+`\"",  // .NET
        b"<>&'+`/=-", // writers of JSON inside HTML
    ];
    let short = [b"\\/".as_slice(), b"/"]
        .into_iter()
        .flat_map(move |slash| {
            ALSO.into_iter().flat_map(move |also| {
                [Case::Upper, Case::Lower].map(|case| {
                    escape(secret, |out, byte| match byte {
                        _ if also.contains(&byte) => case.push(out, "\\u", 4, byte),
                        b'"' => out.extend_from_slice(b"\\\""),
                        b'\\' => out.extend_from_slice(b"\\\\"),
                        b'\t' => out.extend_from_slice(b"\\t"),
                        b'/' => out.extend_from_slice(slash),
                        0..0x20 | 0x7f => case.push(out, "\\u", 4, byte),
                        _ => out.push(byte),
                    })
                })
            })
        });
    let all = [Case::Upper, Case::Lower]
        .into_iter()
        .map(move |case| escape(secret, |out, byte| case.push(out, "\\u", 4, byte)));
    short.chain(all)
}

fn hex_forms(secret: &[u8]) -> impl Iterator<Item = Form> + '_ {
    [Case::Upper, Case::Lower]
        .into_iter()
        .map(move |case| escape(secret, |out, byte| case.push(out, "", 2, byte)))
}

/// Of hexadecimal digits.
#[derive(Clone, Copy)]
enum Case {
    Upper,
    Lower,
}

impl Case {
    fn push(self, out: &mut Vec<u8>, mark: &str, digits: usize, byte: u8) {
        out.extend_from_slice(mark.as_bytes());
        // Writing to a vector cannot fail.
        let _ = match self {
            Self::Upper => write!(out, "{byte:0digits$X}"),
            Self::Lower => write!(out, "{byte:0digits$x}"),
        };
    }
}

fn escape(secret: &[u8], mut push: impl FnMut(&mut Vec<u8>, u8)) -> Form {
    /// The longest escape of one byte is `\u0000`. With room for all, the form
    /// never moves and leaves no copy behind.
    const LONGEST: usize = 6;
    let mut out = Vec::with_capacity(secret.len() * LONGEST);
    for byte in secret {
        push(&mut out, *byte);
    }
    Zeroizing::new(out)
}
