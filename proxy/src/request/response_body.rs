//! Response bodies.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::base::headers;
use crate::observe::Completion;
use crate::routes::RouteSlot;
use crate::scrub::{Patterns, ScrubbedBody};
use crate::session::Session;
use crate::session::limit::Admission;
use crate::upstream::{Lease, UploadGuard};
use crate::usage::UsageMeter;

/// The reason why a response body ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResponseBodyError {
    #[error("reading the body failed")]
    Read(#[source] hyper::Error),
    #[error("no data for {} s", .0.as_secs())]
    Idle(Duration),
    #[error("the session was revoked")]
    Revoked,
}

/// A response body on its way to the client.
#[derive(Debug)]
pub(crate) struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    Ready(Option<Bytes>),
    Streaming(Box<Streaming>),
}

/// Everything that an answer in flight keeps until its end.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The connection, until the body has ended cleanly. Dropped before that,
    /// it is closed, and the upstream learns that nobody is listening.
    lease: Lease,
    /// The request's body, which ends with its answer.
    upload: UploadGuard,
    /// The session's request, in flight as long as its answer.
    admission: Option<Admission>,
    /// The route's request in flight.
    _slot: RouteSlot,
    /// Reads what the answer cost.
    meter: Option<UsageMeter>,
    /// Reported when the exchange ends.
    pub(crate) completion: Completion,
}

#[derive(Debug)]
struct Streaming {
    body: ScrubbedBody<Incoming>,
    idle: IdleDeadline,
    exchange: Option<Exchange>,
    /// Head or data that the connection has taken and may not have sent yet.
    has_unsent: bool,
    /// The error that ends the body, reported once the client has what came before.
    broken: Option<hyper::Error>,
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

    /// The upstream's body without the secrets in `patterns`; `idle` is the
    /// longest silence within it.
    pub(crate) fn streaming(
        incoming: Incoming,
        patterns: Patterns,
        idle: Duration,
        exchange: Exchange,
    ) -> Self {
        let mut streaming = Streaming {
            body: ScrubbedBody::new(incoming, patterns),
            idle: IdleDeadline::new(idle),
            exchange: Some(exchange),
            has_unsent: true,
            broken: None,
        };
        if streaming.body.is_end_stream() {
            streaming.finish();
        }
        Self(Kind::Streaming(Box::new(streaming)))
    }
}

impl Streaming {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let Poll::Ready(next) = self.poll_body(cx) else {
            self.has_unsent = false;
            ready!(self.idle.poll(cx));
            self.fail("upstream fell silent");
            return Poll::Ready(Some(Err(ResponseBodyError::Idle(self.idle.limit))));
        };
        self.idle.restart();
        let next = match next {
            None => {
                self.finish();
                None
            }
            Some(Ok(_)) if self.is_revoked() => {
                self.fail("session revoked");
                Some(Err(ResponseBodyError::Revoked))
            }
            Some(Ok(mut frame)) => {
                self.has_unsent = true;
                // Trailers are headers that come late.
                if let Some(trailers) = frame.trailers_mut() {
                    headers::strip_response(trailers);
                }
                self.observe(&frame);
                // A body of known length is not asked for its end.
                if self.body.is_end_stream() {
                    self.finish();
                }
                Some(Ok(frame))
            }
            // An error closes the connection, with what it has not sent.
            Some(Err(error)) if self.has_unsent => {
                self.has_unsent = false;
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Err(error)) => {
                self.fail("upstream broke off");
                Some(Err(ResponseBodyError::Read(error)))
            }
        };
        Poll::Ready(next)
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let mut body = Pin::new(&mut self.body);
        match &mut self.exchange {
            Some(exchange) => exchange.lease.drive(cx, |cx| body.as_mut().poll_frame(cx)),
            None => body.poll_frame(cx),
        }
    }

    fn is_revoked(&self) -> bool {
        let session = self.exchange.as_ref().and_then(Exchange::session);
        session.is_some_and(|session| session.is_revoked())
    }

    fn observe(&mut self, frame: &Frame<Bytes>) {
        let (Some(data), Some(exchange)) = (frame.data_ref(), &mut self.exchange) else {
            return;
        };
        exchange.completion.add_bytes_out(data.len());
        if let Some(meter) = &mut exchange.meter {
            meter.observe(data);
        }
    }

    fn finish(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.charge();
            exchange.completion.done();
            if exchange.upload.is_done() {
                exchange.lease.give_back();
            }
        }
    }

    fn fail(&mut self, reason: &'static str) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.charge();
            exchange.completion.failed(reason);
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        // The client went away; what was used until then is charged.
        if let Some(exchange) = &mut self.exchange {
            exchange.charge();
        }
    }
}

impl Exchange {
    pub(crate) fn new(
        lease: Lease,
        upload: UploadGuard,
        (admission, slot): (Option<Admission>, RouteSlot),
        meter: Option<UsageMeter>,
        completion: Completion,
    ) -> Self {
        Self {
            lease,
            upload,
            admission,
            _slot: slot,
            meter,
            completion,
        }
    }

    /// The session whose request it is.
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        self.admission.as_ref().map(|admission| &admission.session)
    }

    /// Counts the tokens of the answer, once, against the session's budget.
    fn charge(&mut self) {
        let usage = self.meter.take().and_then(|meter| meter.usage());
        self.completion.usage(usage);
        if let (Some(usage), Some(admission)) = (usage, &self.admission) {
            let spent = &admission.session.usage;
            spent.add_tokens(usage.total_input(), usage.output);
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
            Kind::Streaming(streaming) => streaming.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Ready(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Streaming(streaming) => streaming.body.size_hint(),
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
