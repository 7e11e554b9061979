//! A body whose secrets are masked on the way through.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{Patterns, Scrubber, scrub_headers};

/// Passes `inner` through a [`Scrubber`], frame by frame.
///
/// Fails closed: after an error of `inner` it is never polled again, and what
/// was held back is not shown.
#[derive(Debug)]
pub(crate) struct ScrubbedBody<B> {
    inner: B,
    scrubber: Scrubber,
    /// `inner` ended or failed.
    is_ended: bool,
    /// The frame that follows the held bytes.
    trailers: Option<HeaderMap>,
}

impl<B> ScrubbedBody<B> {
    /// Hides `patterns` in `inner`.
    #[must_use]
    pub(crate) const fn new(inner: B, patterns: Patterns) -> Self {
        Self {
            inner,
            scrubber: Scrubber::new(patterns),
            is_ended: false,
            trailers: None,
        }
    }

    /// `inner` has no more data: shows what is held, then the trailers.
    fn end(&mut self, trailers: Option<HeaderMap>) -> Option<Frame<Bytes>> {
        self.is_ended = true;
        self.trailers = trailers;
        let held = self.scrubber.finish();
        if held.is_empty() {
            self.trailers.take().map(Frame::trailers)
        } else {
            Some(Frame::data(held))
        }
    }
}

impl<B> Body for ScrubbedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if this.is_ended {
            return Poll::Ready(this.trailers.take().map(|last| Ok(Frame::trailers(last))));
        }
        loop {
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    this.is_ended = true;
                    drop(this.scrubber.finish());
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(this.end(None).map(Ok)),
            };
            match frame.into_data() {
                Ok(data) => {
                    let shown = this.scrubber.push(data);
                    // All of it may be held; then the next frame is wanted.
                    if !shown.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(shown))));
                    }
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().ok().map(|mut trailers| {
                        scrub_headers(&mut trailers, &this.scrubber.patterns);
                        trailers
                    });
                    return Poll::Ready(this.end(trailers).map(Ok));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        if self.is_ended {
            self.trailers.is_none()
        } else {
            self.scrubber.held() == 0 && self.inner.is_end_stream()
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_ended {
            return SizeHint::with_exact(0);
        }
        let held = self.scrubber.held() as u64;
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + held);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}
