//! Server-sent events, as far as counting needs them.

use memchr::{memchr, memchr2, memmem};

use super::Reported;
use super::json::Scanner;

/// Scans the data of each event as one JSON document.
#[derive(Debug, Default)]
pub(super) struct EventScanner {
    line: Line,
    /// The last byte ended a line by CR; a LF behind it is the same end.
    is_behind_cr: bool,
    has_data: bool,
    document: Scanner,
    events: u64,
}

/// Where in a line the next byte is.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// This many bytes of [`DATA`] have come, and nothing else.
    Name(usize),
    Data,
    Other,
}

const DATA: &[u8] = b"data:";
/// Every count lies in an object whose key begins so.
const USAGE_KEY: &[u8] = b"\"usage";

impl Default for Line {
    fn default() -> Self {
        Self::Name(0)
    }
}

impl EventScanner {
    /// The number of events with data so far.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    /// Takes the next bytes of the stream.
    pub(super) fn scan(&mut self, mut bytes: &[u8], reported: &mut Reported) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if let Some(event) = self.skipped_event(bytes) {
                bytes = &bytes[event..];
                continue;
            }
            if std::mem::take(&mut self.is_behind_cr) && byte == b'\n' {
                bytes = rest;
                continue;
            }
            if matches!(byte, b'\r' | b'\n') {
                self.is_behind_cr = byte == b'\r';
                self.end_line(reported);
                bytes = rest;
                continue;
            }
            match self.line {
                Line::Name(length) if byte == DATA[length] => {
                    let is_whole = length + 1 == DATA.len();
                    self.line = if is_whole {
                        Line::Data
                    } else {
                        Line::Name(length + 1)
                    };
                    bytes = rest;
                }
                Line::Name(_) => self.line = Line::Other,
                Line::Data | Line::Other => {
                    let end = memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
                    let (text, rest) = bytes.split_at(end);
                    if matches!(self.line, Line::Data) {
                        self.has_data = true;
                        self.document.scan(text, reported);
                    }
                    bytes = rest;
                }
            }
        }
    }

    /// Length of the event that `bytes` begin with, and that has been counted,
    /// if all of it is there and says nothing of usage. Nearly all events are
    /// of this kind, and finding that out is far faster than reading them.
    fn skipped_event(&mut self, bytes: &[u8]) -> Option<usize> {
        if !matches!(self.line, Line::Name(0)) || self.has_data || self.is_behind_cr {
            return None;
        }
        let end = memmem::find(bytes, b"\n\n")?;
        let event = &bytes[..end];
        if memchr(b'\r', event).is_some() || memmem::find(event, USAGE_KEY).is_some() {
            return None;
        }
        let mut lines = event.split(|byte| *byte == b'\n');
        if lines.any(|line| line.len() > DATA.len() && line.starts_with(DATA)) {
            self.events = self.events.saturating_add(1);
        }
        Some(end + 2)
    }

    fn end_line(&mut self, reported: &mut Reported) {
        match std::mem::take(&mut self.line) {
            // An empty line ends the event.
            Line::Name(0) => {
                self.document = Scanner::default();
                if std::mem::take(&mut self.has_data) {
                    self.events = self.events.saturating_add(1);
                }
            }
            // Further data lines continue the document on a new line.
            Line::Data => self.document.scan(b"\n", reported),
            Line::Name(_) | Line::Other => {}
        }
    }
}
