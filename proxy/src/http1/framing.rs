//! Header and request lines that decide where a message ends.

use super::{MAX_HEADERS, Violation};

/// The message's borders, as far as the head has defined them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Framing {
    pub(super) is_http_10: bool,
    pub(super) is_get: bool,
    pub(super) has_host: bool,
    pub(super) has_upgrade: bool,
    pub(super) is_chunked: bool,
    pub(super) length: Option<u64>,
    pub(super) lines: usize,
    pub(super) bytes: usize,
}

impl Framing {
    /// Takes one header line into account.
    pub(super) fn header(&mut self, line: &[u8]) -> Result<(), Violation> {
        self.lines += 1;
        if self.lines > MAX_HEADERS {
            return Err(Violation::TooLarge);
        }
        // A folded line begins with a space, so it has no name.
        let colon = memchr::memchr(b':', line).ok_or(Violation::HeaderName)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(Violation::HeaderName);
        }
        // Without an early end, so that many bytes are looked at together.
        let is_control = |b: &u8| (*b < 0x20 && *b != b'\t') || *b == 0x7f;
        if value.iter().fold(false, |any, b| any | is_control(b)) {
            return Err(Violation::ControlCharacter);
        }
        let value = trim_spaces(value);
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.has_host {
                    return Err(Violation::Host);
                }
                self.has_host = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                // Offering HTTP/2 in clear text asks for no other protocol than
                // this one, and may be ignored.
                self.has_upgrade |= !value.eq_ignore_ascii_case(b"h2c");
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = decimal(value).ok_or(Violation::ContentLength)?;
                if self.length.replace(length).is_some() {
                    return Err(Violation::ContentLength);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::TransferEncoding);
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }
}

/// A value without the spaces around it. Tabs stay: they are allowed there, but
/// not every program takes them for spaces, so no length or coding has them.
fn trim_spaces(value: &[u8]) -> &[u8] {
    let start = value.iter().take_while(|byte| **byte == b' ').count();
    let value = &value[start..];
    let end = value.iter().rev().take_while(|byte| **byte == b' ').count();
    &value[..value.len() - end]
}

/// The parts of a request line.
pub(super) struct RequestLine {
    pub(super) is_http_10: bool,
    pub(super) is_get: bool,
}

/// Checks a request line.
pub(super) fn request_line(line: &[u8]) -> Result<RequestLine, Violation> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let is_method = method.is_some_and(|m| !m.is_empty() && m.iter().all(|b| is_token(*b)));
    let is_target = target.is_some_and(|t| !t.is_empty() && t.iter().all(u8::is_ascii_graphic));
    if !is_method || !is_target || parts.next().is_some() {
        return Err(Violation::RequestLine);
    }
    let is_http_10 = match version {
        Some(b"HTTP/1.1") => false,
        Some(b"HTTP/1.0") => true,
        _ => return Err(Violation::RequestLine),
    };
    Ok(RequestLine {
        is_http_10,
        is_get: method == Some(b"GET"),
    })
}

/// RFC 9110, section 5.6.2. Looked up, as every byte of every name is asked for.
const fn is_token(byte: u8) -> bool {
    const TOKENS: [bool; 256] = {
        let mut tokens = [false; 256];
        let mut byte = 0;
        while byte < 0x80_u8 {
            tokens[byte as usize] = byte.is_ascii_alphanumeric()
                || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
            byte += 1;
        }
        tokens
    };
    TOKENS[byte as usize]
}

/// Digits only, few enough not to overflow.
fn decimal(text: &[u8]) -> Option<u64> {
    let is_number = (1..=18).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let digits = is_number.then_some(text)?;
    Some(
        digits
            .iter()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')),
    )
}

/// A chunk's size in hexadecimal, without extension or padding.
pub(super) fn chunk_size(line: &[u8]) -> Result<u64, Violation> {
    if !(1..=15).contains(&line.len()) {
        return Err(Violation::Chunk);
    }
    line.iter().try_fold(0, |sum, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(Violation::Chunk)?;
        Ok(sum * 16 + u64::from(digit))
    })
}
