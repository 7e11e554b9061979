//! Lines of text from standard input, with a bound on their length.

use std::io;

use drawbridge_io::lines::{Line, LineReader};
use tokio::io::AsyncRead;

/// A line that is no text, or too much of it. The lines behind it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidLine {
    #[error("max line length exceeded")]
    TooLong,
    #[error("Unable to decode input as UTF8")]
    NotUtf8,
}

/// A reader of lines of text.
#[derive(Debug)]
pub(crate) struct TextLines<R>(LineReader<R>);

impl<R: AsyncRead + Unpin> TextLines<R> {
    pub(crate) fn new(source: R, max_bytes: usize) -> Self {
        Self(LineReader::new(source, max_bytes))
    }

    /// The next line; `None` at the end. Dropping the future of a wait loses
    /// nothing.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Result<String, InvalidLine>>> {
        let line = self.0.next().await?;
        Ok(line.map(|line| match line {
            Line::TooLong { .. } => Err(InvalidLine::TooLong),
            Line::Whole(mut bytes) => {
                if bytes.ends_with(b"\r") {
                    bytes.pop();
                }
                String::from_utf8(bytes).map_err(|_| InvalidLine::NotUtf8)
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_cannot_be_read_does_not_end_the_others() {
        let bytes = &b"one\n\xff\ntwo\r\nfar too long\nthree"[..];
        let mut lines = TextLines::new(bytes, 5);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line.ok());
        }
        let expected = [Some("one"), None, Some("two"), None, Some("three")];
        assert_eq!(all, expected.map(|line| line.map(str::to_owned)));
    }
}
