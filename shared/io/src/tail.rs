//! The end of a long output, in bounded memory.

use std::collections::VecDeque;

/// The last bytes of a stream.
#[derive(Clone, Debug)]
pub struct Tail {
    bytes: VecDeque<u8>,
    limit: usize,
    dropped: u64,
}

impl Tail {
    /// A tail that keeps up to `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            limit,
            dropped: 0,
        }
    }

    /// Adds to the end, and drops what is too much from the beginning.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..excess);
        self.dropped += excess as u64;
    }

    /// Number of bytes that were dropped.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The bytes that are kept.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes.iter().copied().collect()
    }
}

/// The last lines of a log.
#[derive(Clone, Debug)]
pub struct LineTail {
    lines: VecDeque<String>,
    max_lines: usize,
    max_line_bytes: usize,
}

impl LineTail {
    /// A tail of up to `max_lines` lines, each cut to `max_line_bytes`.
    #[must_use]
    pub const fn new(max_lines: usize, max_line_bytes: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            max_lines,
            max_line_bytes,
        }
    }

    /// Adds a line. White space at its end is dropped, and so is an empty line.
    pub fn push(&mut self, line: &str) {
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        if self.lines.len() == self.max_lines {
            self.lines.pop_front();
        }
        let end = line.floor_char_boundary(self.max_line_bytes);
        self.lines.push_back(line[..end].to_owned());
    }

    /// The lines that are kept, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_its_end_and_its_length() {
        let mut tail = Tail::new(10);
        for _ in 0..100 {
            tail.push(b"flood ");
        }
        tail.push(b"last");
        assert_eq!(tail.to_vec(), b"flood last");
        assert_eq!(tail.dropped(), 604 - 10);
    }

    #[test]
    fn lines_are_cut_between_characters_and_only_the_last_are_kept() {
        let mut tail = LineTail::new(2, 3);
        for line in ["one\n", "\n", "  \r\n", "\u{e9}\u{e9}\u{e9}", "two"] {
            tail.push(line);
        }
        assert_eq!(tail.lines().collect::<Vec<_>>(), ["\u{e9}", "two"]);
    }
}
