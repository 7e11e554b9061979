//! As much HTTP/1.1 as the bench's own client and upstream need, and no more,
//! so that neither is what is measured.

use std::io;

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A request's or answer's head, which is kept as text.
pub(crate) struct Head {
    text: Vec<u8>,
    content_length: Option<usize>,
    is_chunked: bool,
}

impl Head {
    fn parse(text: &[u8]) -> Self {
        let text = text.to_ascii_lowercase();
        let value = |name: &[u8]| {
            let start = memmem::find(&text, name)? + name.len();
            let end = start + memmem::find(&text[start..], b"\r\n")?;
            std::str::from_utf8(&text[start..end]).ok().map(str::trim)
        };
        Self {
            content_length: value(b"\r\ncontent-length:").and_then(|length| length.parse().ok()),
            is_chunked: value(b"\r\ntransfer-encoding:").is_some(),
            text,
        }
    }

    pub(crate) fn first_line_contains(&self, what: &[u8]) -> bool {
        let end = memmem::find(&self.text, b"\r\n").unwrap_or(self.text.len());
        memmem::find(&self.text[..end], what).is_some()
    }

    /// Whether this is the head of an answer with status 200.
    pub(crate) fn is_ok(&self) -> bool {
        self.text.get(9..12) == Some(b"200")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// Reads messages from a connection.
pub(crate) struct Reader<S> {
    stream: S,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: vec![0; 64 * 1024],
            start: 0,
            end: 0,
        }
    }

    pub(crate) const fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Reads more into the buffer; false at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let count = self.stream.read(&mut self.buffer[self.end..]).await?;
        self.end += count;
        Ok(count > 0)
    }

    /// The next head; none when the connection ended before it.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(end) = memmem::find(unread, b"\r\n\r\n") {
                let head = Head::parse(&unread[..end + 4]);
                self.start += end + 4;
                return Ok(Some(head));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Reads and drops a body; returns its length, with a chunked one's framing.
    pub(crate) async fn skip_body(&mut self, head: &Head) -> io::Result<usize> {
        if head.is_chunked {
            return self.skip_chunks().await;
        }
        let length = head.content_length.unwrap_or(0);
        let mut left = length;
        loop {
            let here = left.min(self.end - self.start);
            self.start += here;
            left -= here;
            if left == 0 {
                return Ok(length);
            }
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn skip_chunks(&mut self) -> io::Result<usize> {
        let mut length = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            let Some(end) = memmem::find(unread, b"\r\n") else {
                if !self.fill().await? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            };
            let size = std::str::from_utf8(&unread[..end]).ok();
            let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
            let size = size.ok_or(io::ErrorKind::InvalidData)?;
            self.start += end + 2;
            let chunk = Head {
                text: Vec::new(),
                content_length: Some(size + 2),
                is_chunked: false,
            };
            Box::pin(self.skip_body(&chunk)).await?;
            length += size;
            if size == 0 {
                return Ok(length);
            }
        }
    }

    /// Whatever comes next of a body; empty at the end.
    pub(crate) async fn piece(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end && !self.fill().await? {
            return Ok(&[]);
        }
        let piece = self.start..self.end;
        self.start = self.end;
        Ok(&self.buffer[piece])
    }
}
