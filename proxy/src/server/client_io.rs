//! The stream of one client connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::listener::Stream;
use crate::http1::{Refused, WireGuard};
use crate::policy::Deadlines;
use crate::request::{Client, HeadRefusal, UpgradeSwitch};

/// A client's stream: its bytes are checked before anything else sees them, and
/// neither a head that does not end nor a client that does not read its answer
/// holds the connection indefinitely.
///
/// The HTTP library sees whole heads only. In the place of one that is refused
/// it sees [`REFUSED_HEAD`], so that the refusal is answered in its turn, with a
/// body, and recorded like any other.
pub(crate) struct ClientIo {
    stream: Stream,
    /// The first bytes of the connection, read to tell its protocol.
    first: First,
    guard: WireGuard,
    upgrade: UpgradeSwitch,
    refusal: HeadRefusal,
    /// The beginning of a head that has not ended.
    held: Vec<u8>,
    /// Bytes that were checked and are to be read next.
    checked: Vec<u8>,
    head: Deadline,
    write: Deadline,
}

/// A request that stands for a head that was refused. A client may send it too,
/// and is refused as well.
const REFUSED_HEAD: &[u8] = b"- / HTTP/1.1\r\nhost: -\r\n\r\n";

/// The first bytes of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct First {
    bytes: [u8; 4],
    length: usize,
}

/// A deadline whose timer is made when it is first waited on.
struct Deadline {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_running: bool,
}

impl First {
    /// Reads until it is clear whether the client begins to speak HTTP/2, whose
    /// preface begins with a method that no HTTP/1 request has.
    pub(crate) async fn read(stream: &mut Stream) -> io::Result<Self> {
        let mut first = Self::default();
        while first.length < first.bytes.len() && HTTP2_PREFACE.starts_with(first.read_so_far()) {
            let rest = &mut first.bytes[first.length..];
            let read = stream.read(rest).await?;
            if read == 0 {
                break;
            }
            first.length += read;
        }
        Ok(first)
    }

    /// Whether the client left without a byte.
    pub(crate) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.bytes == *HTTP2_PREFACE
    }

    fn read_so_far(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Where the preface of HTTP/2 (RFC 9113, section 3.4) differs from any request.
const HTTP2_PREFACE: &[u8; 4] = b"PRI ";

impl Deadline {
    const fn new(limit: Duration) -> Self {
        Self {
            limit,
            timer: None,
            is_running: false,
        }
    }

    const fn stop(&mut self) {
        self.is_running = false;
    }

    /// Starts if it is not running; ready when the time is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_running
            && let Some(timer) = &mut self.timer
        {
            return timer.as_mut().poll(cx);
        }
        self.is_running = true;
        let end = Instant::now() + self.limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        timer.as_mut().reset(end);
        timer.as_mut().poll(cx)
    }
}

impl ClientIo {
    pub(crate) fn new(
        stream: Stream,
        first: First,
        guard: WireGuard,
        client: &Client,
        deadlines: &Deadlines,
    ) -> Self {
        Self {
            stream,
            first,
            guard,
            upgrade: client.upgrade.clone(),
            refusal: client.refusal.clone(),
            held: Vec::new(),
            checked: Vec::new(),
            head: Deadline::new(deadlines.head),
            write: Deadline::new(deadlines.idle),
        }
    }

    fn check_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.write.stop();
            return written;
        }
        ready!(self.write.poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Lets the guard look at what was read, from `before` on, and leaves there
    /// or in `checked` what may be read.
    fn inspect(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        match self.upgrade.take() {
            Some(true) => self.guard.grant_upgrade(),
            Some(false) => self.guard.deny_upgrade(),
            None => {}
        }
        let read = &buf.filled()[before..];
        let inspected = self.guard.inspect(read);
        if inspected == Ok(read.len()) && self.held.is_empty() {
            return;
        }
        let accepted = match inspected {
            Ok(settled) => settled,
            Err(refused) => refused.accepted,
        };
        let (accepted, rest) = read.split_at(accepted);
        if !accepted.is_empty() {
            self.checked.append(&mut self.held);
            self.checked.extend_from_slice(accepted);
        }
        match inspected {
            Ok(_) => self.held.extend_from_slice(rest),
            Err(refused) => self.refuse(refused),
        }
        buf.set_filled(before);
    }

    /// Puts something in the place of what was refused: for a head, a request
    /// that is answered with the reason; within a body, a NUL byte where the
    /// library expects a chunk's size or end, so that the body ends in an error.
    fn refuse(&mut self, refused: Refused) {
        self.held.clear();
        if refused.is_head {
            self.refusal.set(refused.violation);
            self.checked.extend_from_slice(REFUSED_HEAD);
        } else {
            self.checked.push(0);
        }
    }

    /// Reads from what was checked.
    fn read_checked(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.checked.len().min(buf.remaining());
        buf.put_slice(&self.checked[..count]);
        self.checked.drain(..count);
        if self.checked.is_empty() {
            // Thousands of connections wait; none keeps a buffer that it needed once.
            self.checked = Vec::new();
        }
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.length > 0 && buf.remaining() >= self.first.length {
            buf.put_slice(self.first.read_so_far());
            self.first.length = 0;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.checked.is_empty() {
                this.read_checked(buf);
                return Poll::Ready(Ok(()));
            }
            // Nothing comes behind what was refused. An end of the stream would
            // keep the refusal from being sent; it closes the connection.
            if this.guard.has_refused() {
                return Poll::Pending;
            }
            let before = buf.filled().len();
            match this.poll_stream(cx, buf) {
                Poll::Ready(Ok(())) => {}
                Poll::Pending if this.guard.is_within_head() => {
                    ready!(this.head.poll(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                other => return other,
            }
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.inspect(buf, before);
            if !this.guard.is_within_head() {
                this.head.stop();
            }
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.check_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.check_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
