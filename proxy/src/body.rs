//! Bodies on their way through: passed on frame by frame, with deadlines, and
//! with what has to happen at the end hanging on the body itself.

use std::cell::Cell;
use std::error::Error as StdError;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::session::limit::Admission;
use crate::upstream::Lease;

/// What ended a body early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("reading the body failed")]
    Read(#[source] hyper::Error),
    #[error("no data for {} s", .0.as_secs())]
    Idle(Duration),
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
}

/// How far the upload of a request body has come. Shared with the task that
/// waits for the answer, which is the one to enforce deadlines.
#[derive(Debug)]
pub(crate) struct Upload {
    stage: Cell<UploadStage>,
    since: Cell<Instant>,
    bytes: Cell<u64>,
    exceeded: Cell<Option<u64>>,
}

/// Whom an upload waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadStage {
    /// For the client to send more.
    Client,
    /// For the upstream to take what was sent, or to answer.
    Upstream,
    /// For the upstream to answer: all was sent.
    Done,
    /// The client ended it before it was complete.
    Broken,
}

impl Upload {
    fn new(stage: UploadStage) -> Self {
        Self {
            stage: Cell::new(stage),
            since: Cell::new(Instant::now()),
            bytes: Cell::new(0),
            exceeded: Cell::new(None),
        }
    }

    /// Whom the upload waits for, and since when.
    pub(crate) fn waits_for(&self) -> (UploadStage, Instant) {
        (self.stage.get(), self.since.get())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// The cap that the body went over.
    pub(crate) fn exceeded(&self) -> Option<u64> {
        self.exceeded.get()
    }

    fn enter(&self, stage: UploadStage) {
        // A client that was waited for already keeps its start time.
        if self.stage.get() != stage || stage == UploadStage::Upstream {
            self.stage.set(stage);
            self.since.set(Instant::now());
        }
    }
}

/// A request body on its way to the upstream.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Incoming,
    upload: Rc<Upload>,
    cap: Option<u64>,
}

impl RequestBody {
    /// Wraps a client's body; `cap` is the most bytes it may have.
    pub(crate) fn new(incoming: Incoming, cap: Option<u64>) -> (Self, Rc<Upload>) {
        let stage = if incoming.is_end_stream() {
            UploadStage::Done
        } else {
            UploadStage::Upstream
        };
        let upload = Rc::new(Upload::new(stage));
        let body = Self {
            incoming,
            upload: Rc::clone(&upload),
            cap,
        };
        (body, upload)
    }

    fn count(&self, bytes: usize) -> Result<(), BodyError> {
        let total = self.upload.bytes() + bytes as u64;
        self.upload.bytes.set(total);
        match self.cap {
            Some(cap) if total > cap => {
                self.upload.exceeded.set(Some(cap));
                Err(BodyError::TooLarge(cap))
            }
            _ => Ok(()),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(next) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            self.upload.enter(UploadStage::Client);
            return Poll::Pending;
        };
        let (stage, next) = match next {
            None => (UploadStage::Done, None),
            Some(Err(error)) => (UploadStage::Broken, Some(Err(BodyError::Read(error)))),
            Some(Ok(frame)) => {
                let counted = self.count(frame.data_ref().map_or(0, Bytes::len));
                let stage = if self.incoming.is_end_stream() {
                    UploadStage::Done
                } else {
                    UploadStage::Upstream
                };
                (stage, Some(counted.map(|()| frame)))
            }
        };
        self.upload.enter(stage);
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A response body on its way to the client.
#[derive(Debug)]
pub(crate) struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    Ready(Option<Bytes>),
    Streaming(Streaming),
}

#[derive(Debug)]
struct Streaming {
    incoming: Incoming,
    idle: IdleDeadline,
    /// The connection, until the body has ended in order. Dropped before that,
    /// it is closed, and the upstream learns that nobody is listening.
    lease: Option<Lease>,
    /// The session's request, in flight as long as its answer.
    admission: Option<Admission>,
}

impl ResponseBody {
    /// A body that is known already.
    pub(crate) const fn ready(bytes: Bytes) -> Self {
        Self(Kind::Ready(Some(bytes)))
    }

    /// No body.
    pub(crate) const fn empty() -> Self {
        Self(Kind::Ready(None))
    }

    /// The upstream's body; `idle` is the longest silence within it.
    pub(crate) fn streaming(incoming: Incoming, lease: Lease, idle: Duration) -> Self {
        let mut streaming = Streaming {
            idle: IdleDeadline::new(idle),
            lease: Some(lease),
            incoming,
            admission: None,
        };
        if streaming.incoming.is_end_stream() {
            streaming.finish();
        }
        Self(Kind::Streaming(streaming))
    }

    /// Keeps a session's request in flight until this body ends.
    #[must_use]
    pub(crate) fn holding(mut self, admission: Option<Admission>) -> Self {
        if let Kind::Streaming(streaming) = &mut self.0 {
            streaming.admission = admission;
        }
        self
    }
}

impl Streaming {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(next) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            ready!(self.idle.poll(cx));
            self.lease = None;
            return Poll::Ready(Some(Err(BodyError::Idle(self.idle.limit))));
        };
        self.idle.restart();
        let next = match next {
            None => {
                self.finish();
                None
            }
            Some(Ok(frame)) => {
                // A body of known length is not asked for its end.
                if self.incoming.is_end_stream() {
                    self.finish();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.lease = None;
                Some(Err(BodyError::Read(error)))
            }
        };
        Poll::Ready(next)
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.get_mut().0 {
            Kind::Ready(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Streaming(streaming) => streaming
                .poll_frame(cx)
                .map(|next| next.map(|frame| frame.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Ready(bytes) => bytes.is_none(),
            Kind::Streaming(streaming) => streaming.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Ready(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Streaming(streaming) => streaming.incoming.size_hint(),
        }
    }
}

/// A deadline on silence. The timer is made at the first silence and is not
/// touched by data: it looks at the time of the last data when it fires.
#[derive(Debug)]
struct IdleDeadline {
    limit: Duration,
    last: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl IdleDeadline {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            last: Instant::now(),
            timer: None,
        }
    }

    fn restart(&mut self) {
        self.last = Instant::now();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = self.last + self.limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
    }
}
