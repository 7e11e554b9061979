//! Request bodies.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::base::headers;
use crate::observe::ByteCount;

/// The reason why a request body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestBodyError {
    #[error("reading the body failed")]
    Read(#[source] hyper::Error),
    #[error("the exchange is over")]
    ExchangeEnded,
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
}

/// The progress of the upload of a request body. Shared with the task that
/// waits for the answer, which is the one to enforce deadlines.
#[derive(Debug)]
pub(crate) struct Upload {
    stage: Cell<UploadStage>,
    since: Cell<Instant>,
    bytes: ByteCount,
    /// The most bytes it may have.
    cap: Option<u64>,
    exceeded: Cell<Option<u64>>,
    is_given_up: Cell<bool>,
    /// The task that waits for the client to send more.
    reader: RefCell<Option<Waker>>,
}

/// The upload of an exchange; what is not done when this is dropped is given up.
///
/// An upstream may answer before it has the whole request. A client that sends
/// the rest slowly, or never, must not keep the connection for itself then.
#[derive(Debug)]
pub(crate) struct UploadGuard(Rc<Upload>);

impl Deref for UploadGuard {
    type Target = Upload;

    fn deref(&self) -> &Upload {
        &self.0
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        self.0.is_given_up.set(!self.0.is_done());
        if let Some(reader) = self.0.reader.take() {
            reader.wake();
        }
    }
}

/// The side that an upload waits for.
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
    fn new(stage: UploadStage, cap: Option<u64>, bytes: ByteCount) -> Self {
        Self {
            stage: Cell::new(stage),
            since: Cell::new(Instant::now()),
            bytes,
            cap,
            exceeded: Cell::new(None),
            is_given_up: Cell::new(false),
            reader: RefCell::default(),
        }
    }

    /// Whether the upstream's connection has the whole body.
    pub(crate) fn is_done(&self) -> bool {
        self.stage.get() == UploadStage::Done
    }

    /// The side that the upload waits for, and since when.
    pub(crate) fn waits_for(&self) -> (UploadStage, Instant) {
        (self.stage.get(), self.since.get())
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

/// A request body on its way to the upstream. It is small, as the HTTP library
/// keeps room for 32 of them for each connection.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Box<Incoming>,
    upload: Rc<Upload>,
}

impl RequestBody {
    /// Wraps a client's body; `cap` is the most bytes it may have, and `bytes`
    /// counts them.
    pub(crate) fn new(
        incoming: Incoming,
        cap: Option<u64>,
        bytes: ByteCount,
    ) -> (Self, UploadGuard) {
        let stage = if incoming.is_end_stream() {
            UploadStage::Done
        } else {
            UploadStage::Upstream
        };
        let upload = Rc::new(Upload::new(stage, cap, bytes));
        let body = Self {
            incoming: Box::new(incoming),
            upload: Rc::clone(&upload),
        };
        (body, UploadGuard(upload))
    }

    fn count(&self, bytes: usize) -> Result<(), RequestBodyError> {
        self.upload.bytes.add(bytes);
        match self.upload.cap {
            Some(cap) if self.upload.bytes.get() > cap => {
                self.upload.exceeded.set(Some(cap));
                Err(RequestBodyError::TooLarge(cap))
            }
            _ => Ok(()),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if self.upload.is_given_up.get() {
            return Poll::Ready(Some(Err(RequestBodyError::ExchangeEnded)));
        }
        let Poll::Ready(next) = Pin::new(&mut *self.incoming).poll_frame(cx) else {
            self.upload.enter(UploadStage::Client);
            self.upload.reader.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        };
        let (stage, next) = match next {
            None => (UploadStage::Done, None),
            Some(Err(error)) => (
                UploadStage::Broken,
                Some(Err(RequestBodyError::Read(error))),
            ),
            Some(Ok(mut frame)) => {
                // Trailers are headers that come late.
                if let Some(trailers) = frame.trailers_mut() {
                    headers::strip_request(trailers);
                }
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
