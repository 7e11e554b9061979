//! The stream of one client connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::stream::Stream;
use super::wire::WireGuard;
use crate::config::Deadlines;

/// A client's stream: its bytes are checked before anything else sees them, and
/// neither a head that does not end nor a client that does not read its answer
/// holds the connection for ever.
pub(crate) struct ClientIo {
    stream: Stream,
    /// The first bytes of the connection, read to tell its protocol.
    first: First,
    guard: WireGuard,
    upgrade: UpgradeSwitch,
    head: Deadline,
    write: Deadline,
    /// What follows the NUL byte that stands for refused bytes.
    refusal: &'static [u8],
}

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

/// What became of a request for an upgrade, told by the one who answers it to
/// the one who reads what follows.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpgradeSwitch(Arc<AtomicU8>);

const UNDECIDED: u8 = 0;
const GRANTED: u8 = 1;
const DENIED: u8 = 2;

impl UpgradeSwitch {
    pub(crate) fn grant(&self) {
        self.0.store(GRANTED, Ordering::Release);
    }

    pub(crate) fn deny(&self) {
        self.0.store(DENIED, Ordering::Release);
    }
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
    pub(crate) const fn new(
        stream: Stream,
        first: First,
        guard: WireGuard,
        upgrade: UpgradeSwitch,
        deadlines: &Deadlines,
    ) -> Self {
        Self {
            stream,
            first,
            guard,
            upgrade,
            head: Deadline::new(deadlines.head),
            write: Deadline::new(deadlines.idle),
            refusal: b"\r\n\r\n",
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

    /// Lets the guard look at what was read. What it refuses is replaced by one
    /// NUL byte, which is not part of any message, so that the HTTP library
    /// answers 400 and closes the connection.
    fn inspect(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        match self.upgrade.0.load(Ordering::Acquire) {
            UNDECIDED => {}
            verdict => {
                if verdict == GRANTED {
                    self.guard.grant_upgrade();
                } else {
                    self.guard.deny_upgrade();
                }
                self.upgrade.0.store(UNDECIDED, Ordering::Release);
            }
        }
        if let Err((accepted, violation)) = self.guard.inspect(&buf.filled()[before..]) {
            tracing::info!("a client's bytes were refused: {violation}");
            buf.filled_mut()[before + accepted] = 0;
            buf.set_filled(before + accepted + 1);
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
        if this.guard.has_refused() {
            // The library parses a head when it looks complete. Behind it, the
            // client has ended.
            let rest = this.refusal.len().min(buf.remaining());
            buf.put_slice(&this.refusal[..rest]);
            this.refusal = &this.refusal[rest..];
            return Poll::Ready(Ok(()));
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
        this.inspect(buf, before);
        if !this.guard.is_within_head() {
            this.head.stop();
        }
        Poll::Ready(Ok(()))
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
