//! Clients of HTTP/2 that do not take their answers.
//!
//! Over HTTP/1 such a client blocks the writes to its connection, and the stream
//! sees that. Over HTTP/2 the connection goes on: the client answers pings and
//! takes other answers, but opens no window for this one. Nothing of ours is
//! polled then, so a deadline has to be watched from beside it.

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::request::ResponseBody;

/// Of a piece that is longer, the last byte goes by itself.
const LARGE_PIECE: usize = 4096;

/// Whether a client owes us room for what it was given.
#[derive(Debug)]
pub(crate) struct Stall {
    limit: Duration,
    /// Since when a piece of the answer waits to be taken; none while the next
    /// one is waited for.
    since: Cell<Option<Instant>>,
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
}

impl Stall {
    pub(crate) fn new(limit: Duration) -> Rc<Self> {
        Rc::new(Self {
            limit,
            since: Cell::new(None),
            timer: RefCell::new(None),
        })
    }

    /// Ready when the client has taken nothing for too long.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(since) = self.since.get() else {
            return Poll::Pending;
        };
        let end = since + self.limit;
        let mut timer = self.timer.borrow_mut();
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        timer.as_mut().poll(cx)
    }

    /// An answer whose pieces are watched.
    pub(crate) fn watch(self: &Rc<Self>, answer: Response<ResponseBody>) -> Response<Watched> {
        answer.map(|body| Watched {
            body,
            last_byte: None,
            stall: Rc::clone(self),
        })
    }
}

/// A body that tells when it was last asked for a piece.
///
/// The HTTP library asks for a piece only when the client has room for all that
/// came before, but then takes all of it, and with the last one the stream is
/// done as far as it can tell. So that no client leaves much in its buffers, the
/// last byte of a large piece waits until there is room for what is before it.
#[derive(Debug)]
pub(crate) struct Watched {
    body: ResponseBody,
    last_byte: Option<Bytes>,
    stall: Rc<Stall>,
}

impl Watched {
    fn next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, <ResponseBody as Body>::Error>>> {
        if let Some(last) = self.last_byte.take() {
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        let next = Pin::new(&mut self.body).poll_frame(cx);
        let Poll::Ready(Some(Ok(frame))) = next else {
            return next;
        };
        let frame = match frame.into_data() {
            Ok(mut data) if data.len() >= LARGE_PIECE => {
                self.last_byte = Some(data.split_off(data.len() - 1));
                Frame::data(data)
            }
            Ok(data) => Frame::data(data),
            Err(trailers) => trailers,
        };
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = <ResponseBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.next(cx);
        let is_given = matches!(next, Poll::Ready(Some(Ok(_))));
        self.stall.since.set(is_given.then(Instant::now));
        next
    }

    fn is_end_stream(&self) -> bool {
        self.last_byte.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.last_byte.as_ref().map_or(0, |last| last.len() as u64);
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + held);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}

/// Runs the streams of one HTTP/2 connection on the thread they belong to, each
/// until its client has stalled.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamExecutor {
    /// Of the request that the HTTP library has just begun to serve, and will
    /// hand over next.
    next: Rc<RefCell<Option<Rc<Stall>>>>,
    running: Rc<Running>,
}

/// Counts the streams that are being served.
#[derive(Debug, Default)]
struct Running {
    count: Cell<usize>,
    changed: Notify,
}

impl StreamExecutor {
    /// Watches the stream that is executed next.
    pub(crate) fn expect(&self, stall: &Rc<Stall>) {
        self.next.replace(Some(Rc::clone(stall)));
    }

    /// Completes when no stream was served for so long. What a client has not
    /// taken of answers that are done is all that can be left then.
    pub(crate) async fn idle(&self, limit: Duration) {
        loop {
            let changed = self.running.changed.notified();
            if self.running.count.get() > 0 {
                changed.await;
            } else if timeout(limit, changed).await.is_err() {
                return;
            }
        }
    }
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, stream: F) {
        let served = Served::new(Rc::clone(&self.running));
        let stall = self.next.take();
        tokio::task::spawn_local(async move {
            let _served = served;
            match stall {
                Some(stall) => until_stalled(stream, stall).await,
                None => stream.await,
            }
        });
    }
}

/// A stream that counts as running until this is dropped.
struct Served(Rc<Running>);

impl Served {
    fn new(running: Rc<Running>) -> Self {
        running.count.set(running.count.get() + 1);
        running.changed.notify_one();
        Self(running)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.changed.notify_one();
    }
}

/// Ends with the stream, or drops it, which resets it, closes its connection to
/// the upstream and takes its request back from all limits.
async fn until_stalled(stream: impl Future<Output = ()>, stall: Rc<Stall>) {
    let mut stream = pin!(stream);
    let is_stalled = std::future::poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        stall.poll(cx).map(|()| true)
    });
    if is_stalled.await {
        tracing::info!("a client took nothing of an answer for too long, so its stream is reset");
    }
}
