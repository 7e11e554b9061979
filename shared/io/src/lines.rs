//! Lines from a pipe or another stream, with a bound on their length.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// One line, without its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The whole line. It need not be UTF-8.
    Whole(Vec<u8>),
    /// A line longer than allowed. The rest of it has been skipped.
    TooLong {
        /// As much of it as is allowed.
        start: Vec<u8>,
        /// Length of the whole line, in bytes.
        length: usize,
    },
}

/// A reader of lines in bounded memory. Dropping the future of a wait loses
/// nothing.
#[derive(Debug)]
pub struct LineReader<R> {
    reader: BufReader<R>,
    limit: usize,
    /// Whether a carriage return ends a line as well.
    splits_at_carriage_return: bool,
    line: Vec<u8>,
    /// Length of the current line, the skipped part included.
    length: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// A reader of lines of up to `limit` bytes.
    pub fn new(reader: R, limit: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(64 * 1024, reader),
            limit,
            splits_at_carriage_return: false,
            line: Vec::new(),
            length: 0,
        }
    }

    /// The reader with carriage returns as line ends too, as progress displays
    /// use them.
    #[must_use]
    pub fn split_at_carriage_return(mut self) -> Self {
        self.splits_at_carriage_return = true;
        self
    }

    /// The next line; a last line without a line end counts. `None` at the end.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let bytes = self.reader.fill_buf().await?;
            if bytes.is_empty() {
                return Ok((self.length > 0).then(|| self.end_line()));
            }
            let end = if self.splits_at_carriage_return {
                memchr::memchr2(b'\n', b'\r', bytes)
            } else {
                memchr::memchr(b'\n', bytes)
            };
            let text = &bytes[..end.unwrap_or(bytes.len())];
            let free = self.limit.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(free)]);
            self.length += text.len();
            let consumed = text.len() + usize::from(end.is_some());
            self.reader.consume(consumed);
            if end.is_some() {
                return Ok(Some(self.end_line()));
            }
        }
    }

    fn end_line(&mut self) -> Line {
        let line = std::mem::take(&mut self.line);
        let length = std::mem::take(&mut self.length);
        if length > self.limit {
            Line::TooLong {
                start: line,
                length,
            }
        } else {
            Line::Whole(line)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(mut reader: LineReader<&[u8]>) -> Vec<Line> {
        let mut lines = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            lines.push(line);
        }
        lines
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_cut_and_the_next_one_is_read() {
        let lines = read_all(LineReader::new(&b"ab\nabcdefgh\n\nlast"[..], 4)).await;
        let too_long = Line::TooLong {
            start: b"abcd".to_vec(),
            length: 8,
        };
        assert_eq!(lines, [whole("ab"), too_long, whole(""), whole("last")]);
    }

    #[tokio::test]
    async fn a_carriage_return_ends_a_line_when_asked_to() {
        let bytes = &b"10%\r20%\r\nend"[..];
        let lines = read_all(LineReader::new(bytes, 9).split_at_carriage_return()).await;
        assert_eq!(lines, ["10%", "20%", "", "end"].map(whole));
        let lines = read_all(LineReader::new(bytes, 9)).await;
        assert_eq!(lines, ["10%\r20%\r", "end"].map(whole));
    }
}
