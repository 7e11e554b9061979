//! One exchange with an upstream: send the request, wait for the answer's head.

use std::pin::pin;
use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use crate::base::chain;
use crate::observe::metrics::RouteMetrics;
use crate::policy::Deadlines;
use crate::policy::Refusal;
use crate::upstream::{Lease, Pool, SendError};
use crate::upstream::{RequestBody, Upload, UploadStage};

/// Sends a request that is ready to go, credential included, and returns the
/// answer with its body still to come, and the connection it comes on.
///
/// A connection from the pool may have died unnoticed. The request then goes to
/// another one, but only if no byte of it was sent: anything else could make
/// the upstream work, and charge, twice.
pub(crate) async fn forward(
    outgoing: Outgoing<'_>,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), Refusal> {
    let Outgoing { upload, .. } = outgoing;
    loop {
        let mut lease = outgoing.lease().await?;
        let sending = lease.send(request);
        match head_in_time(sending, upload, outgoing.deadlines).await? {
            Ok(response) => {
                if !upload.is_done() {
                    lease.detach();
                }
                return Ok((response, lease));
            }
            Err(SendError::Unsent(unsent, _)) if lease.is_reused() => request = *unsent,
            Err(SendError::Unsent(_, error) | SendError::Sent(error)) => {
                return Err(failed(&error, upload));
            }
        }
    }
}

/// The way in which a request is sent.
pub(crate) struct Outgoing<'a> {
    pub(crate) pool: &'a Rc<Pool>,
    pub(crate) metrics: &'a RouteMetrics,
    pub(crate) upload: &'a Upload,
    pub(crate) deadlines: &'a Deadlines,
    pub(crate) is_upgrade: bool,
}

impl Outgoing<'_> {
    async fn lease(&self) -> Result<Lease, Refusal> {
        let lease = if self.is_upgrade {
            self.pool.lease_for_upgrade().await
        } else {
            self.pool.lease().await
        };
        let lease = lease.map_err(|error| Refusal::Unreachable {
            detail: chain(&error),
        })?;
        if lease.is_reused() {
            self.metrics.connection_reused();
        } else {
            self.metrics.connection_opened();
        }
        Ok(lease)
    }
}

/// Waits for the head of the answer. The upstream's time starts when it has the
/// whole request, as an upload may take longer than any answer should.
async fn head_in_time<T>(
    sending: impl Future<Output = T>,
    upload: &Upload,
    deadlines: &Deadlines,
) -> Result<T, Refusal> {
    let mut sending = pin!(sending);
    let mut timer = pin!(sleep_until(Instant::now() + deadlines.shortest()));
    loop {
        tokio::select! {
            biased;
            done = &mut sending => return Ok(done),
            () = &mut timer => {}
        }
        let (stage, since) = upload.waits_for();
        let (limit, refusal) = match stage {
            UploadStage::Client => (deadlines.idle, Refusal::UploadStalled),
            _ => (
                deadlines.first_byte,
                Refusal::FirstByteTimeout(deadlines.first_byte),
            ),
        };
        if since.elapsed() >= limit {
            return Err(refusal);
        }
        // An upload that moves on may come under the other limit.
        let next = (since + limit).min(Instant::now() + deadlines.shortest());
        timer.as_mut().reset(next);
    }
}

/// The refusal for a request that got no answer.
fn failed(error: &hyper::Error, upload: &Upload) -> Refusal {
    let detail = chain(error);
    if let Some(cap) = upload.exceeded() {
        return Refusal::BodyTooLarge(cap);
    }
    match upload.waits_for().0 {
        UploadStage::Broken => Refusal::UploadBroken { detail },
        _ => Refusal::UpstreamClosed { detail },
    }
}
