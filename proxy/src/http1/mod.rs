//! A strict reading of HTTP/1 framing, before the HTTP library sees the bytes.
//!
//! Libraries repair or tolerate what RFC 9112 lets them: a bare line feed, a
//! content length next to a chunked body, a repeated length, chunk extensions.
//! Wherever two programs could disagree about where a message ends, a request
//! can be smuggled in; so all of it is refused here. The guard follows message
//! borders by itself, changes nothing of what it accepts, and keeps at most one
//! unfinished line.

use std::ops::ControlFlow;

use memchr::memchr2;

mod framing;

use framing::{Framing, RequestLine, chunk_size, request_line};

/// Largest request head, and largest trailer section, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Most header lines of one message.
pub(crate) const MAX_HEADERS: usize = 128;

/// Where in the conversation the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A request line, or a byte that begins one.
    RequestLine,
    HeaderLine,
    /// So many bytes of a body of known length.
    Body(u64),
    ChunkSize,
    /// So many bytes of a chunk, with the line end after it.
    Chunk(u64),
    Trailer,
    /// Behind a request for an upgrade that is not answered yet.
    Undecided,
    /// Behind an upgrade, or HTTP/2: no business of this guard.
    Passed,
    /// Something was refused; nothing more is let through.
    Refused,
}

/// Why bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    LineEnd,
    RequestLine,
    HeaderName,
    ControlCharacter,
    TooLarge,
    Host,
    ContentLength,
    TransferEncoding,
    TwoLengths,
    Chunk,
    EarlyUpgradeBytes,
    Upgrade,
}

impl Violation {
    /// The violation, as the client and the log may read it.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::LineEnd => "a line does not end with CR LF",
            Self::RequestLine => "the request line is not METHOD TARGET HTTP/1.x",
            Self::HeaderName => "a header line has no proper name",
            Self::ControlCharacter => "a header line has a control character",
            Self::TooLarge => "the head is too large",
            Self::Host => "Host is missing or repeated",
            Self::ContentLength => "Content-Length is repeated or not a number",
            Self::TransferEncoding => "Transfer-Encoding is not exactly chunked, once, in HTTP/1.1",
            Self::TwoLengths => "both Content-Length and Transfer-Encoding are given",
            Self::Chunk => "a chunk is not a size, a line end, data and a line end",
            Self::EarlyUpgradeBytes => {
                "bytes follow a request for an upgrade that is not granted yet"
            }
            Self::Upgrade => "a request for an upgrade is not a GET without a body",
        }
    }
}

/// Bytes that were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// So many bytes before the ones that are wrong can be passed on. Of a head
    /// that is wrong nothing can.
    pub(crate) accepted: usize,
    pub(crate) violation: Violation,
    /// Whether it is in a head, or where one would begin, and not in a body.
    pub(crate) is_head: bool,
}

/// Follows the bytes that a client sends on one connection.
#[derive(Debug)]
pub(crate) struct WireGuard {
    place: Place,
    framing: Framing,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
}

impl WireGuard {
    pub(crate) const fn new() -> Self {
        Self {
            place: Place::RequestLine,
            framing: Framing {
                is_http_10: false,
                is_get: false,
                has_host: false,
                has_upgrade: false,
                is_chunked: false,
                length: None,
                lines: 0,
                bytes: 0,
            },
            line: Vec::new(),
        }
    }

    /// A guard that lets everything through, for HTTP/2.
    pub(crate) const fn passing() -> Self {
        let mut guard = Self::new();
        guard.place = Place::Passed;
        guard
    }

    /// Whether a head has begun and not ended.
    pub(crate) fn is_within_head(&self) -> bool {
        match self.place {
            Place::RequestLine => !self.line.is_empty(),
            Place::HeaderLine => true,
            _ => false,
        }
    }

    /// Whether something was refused.
    pub(crate) fn has_refused(&self) -> bool {
        self.place == Place::Refused
    }

    /// The upgrade that was asked for is granted: what follows is not HTTP.
    pub(crate) fn grant_upgrade(&mut self) {
        if self.place == Place::Undecided {
            self.place = Place::Passed;
        }
    }

    /// The upgrade that was asked for is not granted: requests may follow.
    pub(crate) fn deny_upgrade(&mut self) {
        if self.place == Place::Undecided {
            self.place = Place::RequestLine;
        }
    }

    /// Looks at the next bytes, and returns how many of them belong to whole
    /// heads and to bodies; what is behind them is a head that has not ended.
    ///
    /// # Errors
    /// What is wrong with the next byte.
    pub(crate) fn inspect(&mut self, bytes: &[u8]) -> Result<usize, Refused> {
        let (mut at, mut settled) = (0, 0);
        while at < bytes.len() {
            match self.step(&bytes[at..]) {
                ControlFlow::Continue(taken) => at += taken,
                ControlFlow::Break((taken, violation)) => {
                    let is_head = self.is_before_body();
                    self.place = Place::Refused;
                    return Err(Refused {
                        accepted: if is_head { settled } else { at + taken },
                        violation,
                        is_head,
                    });
                }
            }
            if !self.is_within_head() {
                settled = at;
            }
        }
        Ok(settled)
    }

    const fn is_before_body(&self) -> bool {
        matches!(
            self.place,
            Place::RequestLine | Place::HeaderLine | Place::Undecided
        )
    }

    /// Takes at least one byte, or refuses.
    fn step(&mut self, bytes: &[u8]) -> ControlFlow<(usize, Violation), usize> {
        match self.place {
            Place::Passed => ControlFlow::Continue(bytes.len()),
            Place::Refused => ControlFlow::Break((0, Violation::LineEnd)),
            Place::Undecided => ControlFlow::Break((0, Violation::EarlyUpgradeBytes)),
            Place::Body(left) => {
                let taken = bounded(left, bytes.len());
                self.place = match left - taken as u64 {
                    0 => self.after_message(),
                    left => Place::Body(left),
                };
                ControlFlow::Continue(taken)
            }
            Place::Chunk(left) if left > 2 => {
                let taken = bounded(left - 2, bytes.len());
                self.place = Place::Chunk(left - taken as u64);
                ControlFlow::Continue(taken)
            }
            Place::Chunk(left) => {
                let expected = if left == 2 { b'\r' } else { b'\n' };
                if bytes[0] != expected {
                    return ControlFlow::Break((0, Violation::Chunk));
                }
                self.place = match left {
                    2 => Place::Chunk(1),
                    _ => Place::ChunkSize,
                };
                ControlFlow::Continue(1)
            }
            Place::RequestLine | Place::HeaderLine | Place::ChunkSize | Place::Trailer => {
                self.line(bytes)
            }
        }
    }

    /// Takes the rest of a line, or all there is of it.
    fn line(&mut self, bytes: &[u8]) -> ControlFlow<(usize, Violation), usize> {
        // A carriage return may have been the last byte of the piece before.
        let ends_with_cr = self.line.last() == Some(&b'\r');
        let end = match memchr2(b'\r', b'\n', bytes) {
            Some(0) if ends_with_cr && bytes[0] == b'\n' => 1,
            _ if ends_with_cr => return ControlFlow::Break((0, Violation::LineEnd)),
            Some(at) if bytes[at] == b'\n' => {
                return ControlFlow::Break((at, Violation::LineEnd));
            }
            Some(at) => match bytes.get(at + 1) {
                Some(b'\n') => at + 2,
                Some(_) => return ControlFlow::Break((at + 1, Violation::LineEnd)),
                None => return self.keep(bytes),
            },
            None => return self.keep(bytes),
        };
        if let Err(violation) = self.count(end) {
            return ControlFlow::Break((0, violation));
        }
        let accepted = if self.line.is_empty() {
            self.finish_line(&bytes[..end - 2])
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&bytes[..end]);
            self.finish_line(&line[..line.len() - 2])
        };
        match accepted {
            Ok(()) => ControlFlow::Continue(end),
            // The line feed is the byte that makes the line what it is.
            Err(violation) => ControlFlow::Break((end - 1, violation)),
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> ControlFlow<(usize, Violation), usize> {
        if let Err(violation) = self.count(bytes.len()) {
            return ControlFlow::Break((0, violation));
        }
        self.line.extend_from_slice(bytes);
        ControlFlow::Continue(bytes.len())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Violation> {
        self.framing.bytes += bytes;
        let bound = match self.place {
            Place::ChunkSize => 18,
            _ => MAX_HEAD_BYTES,
        };
        if self.framing.bytes > bound {
            return Err(match self.place {
                Place::ChunkSize => Violation::Chunk,
                _ => Violation::TooLarge,
            });
        }
        Ok(())
    }

    /// A line is complete, its end not included.
    fn finish_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        self.place = match self.place {
            Place::RequestLine => {
                let RequestLine { is_http_10, is_get } = request_line(line)?;
                self.framing = Framing {
                    is_http_10,
                    is_get,
                    bytes: self.framing.bytes,
                    ..Framing::default()
                };
                Place::HeaderLine
            }
            Place::HeaderLine if line.is_empty() => self.after_head()?,
            Place::HeaderLine => {
                self.framing.header(line)?;
                Place::HeaderLine
            }
            Place::ChunkSize => {
                self.framing.bytes = 0;
                match chunk_size(line)? {
                    0 => Place::Trailer,
                    size => Place::Chunk(size + 2),
                }
            }
            Place::Trailer if line.is_empty() => self.after_message(),
            Place::Trailer => {
                let mut framing = self.framing;
                framing.header(line)?;
                // A trailer may not say anything about borders after the fact.
                let says = |f: &Framing| (f.length, f.has_host, f.has_upgrade);
                if says(&framing) != says(&self.framing) {
                    return Err(Violation::HeaderName);
                }
                self.framing.lines = framing.lines;
                Place::Trailer
            }
            other => other,
        };
        Ok(())
    }

    fn after_head(&mut self) -> Result<Place, Violation> {
        let framing = self.framing;
        if !framing.has_host && !framing.is_http_10 {
            return Err(Violation::Host);
        }
        let has_body = framing.is_chunked || framing.length.is_some_and(|length| length > 0);
        match (framing.is_chunked, framing.length) {
            (true, Some(_)) => Err(Violation::TwoLengths),
            (true, None) if framing.is_http_10 => Err(Violation::TransferEncoding),
            _ if framing.has_upgrade && (has_body || !framing.is_get) => Err(Violation::Upgrade),
            (true, None) => {
                self.framing.bytes = 0;
                Ok(Place::ChunkSize)
            }
            (false, Some(length)) if length > 0 => Ok(Place::Body(length)),
            (false, _) => Ok(self.after_message()),
        }
    }

    fn after_message(&mut self) -> Place {
        self.framing.bytes = 0;
        if self.framing.has_upgrade {
            Place::Undecided
        } else {
            Place::RequestLine
        }
    }
}

/// The smaller of a remaining length and what there is.
fn bounded(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

#[cfg(test)]
mod tests;
