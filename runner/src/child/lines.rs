//! Lines from a pipe or another stream, with a bound on their length.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// One line, without its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The whole line. It need not be UTF-8.
    Whole(Vec<u8>),
    /// It was longer than allowed; this is how long. Its content is dropped.
    TooLong(usize),
}

/// Reads lines. Giving up a wait loses nothing.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    reader: BufReader<R>,
    limit: usize,
    line: Vec<u8>,
    /// Length of the current line, the dropped part included.
    length: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(64 * 1024, reader),
            limit,
            line: Vec::new(),
            length: 0,
        }
    }

    /// The next line; a last line without a line end counts. `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let bytes = self.reader.fill_buf().await?;
            if bytes.is_empty() {
                return Ok((self.length > 0).then(|| self.end_line()));
            }
            let end = memchr::memchr(b'\n', bytes);
            let text = &bytes[..end.unwrap_or(bytes.len())];
            let room = self.limit.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            self.length += text.len();
            let taken = text.len() + usize::from(end.is_some());
            self.reader.consume(taken);
            if end.is_some() {
                return Ok(Some(self.end_line()));
            }
        }
    }

    fn end_line(&mut self) -> Line {
        let line = std::mem::take(&mut self.line);
        let length = std::mem::take(&mut self.length);
        if length > self.limit {
            Line::TooLong(length)
        } else {
            Line::Whole(line)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(mut bytes: &[u8], limit: usize) -> Vec<Line> {
        let mut reader = LineReader::new(&mut bytes, limit);
        let mut lines = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_dropped_and_the_next_one_is_read() {
        let lines = read_all(b"ab\nabcdefgh\n\nlast", 4).await;
        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        assert_eq!(
            lines,
            [whole("ab"), Line::TooLong(8), whole(""), whole("last")]
        );
    }
}
