//! Bodies on their way through: passed on frame by frame, with deadlines, and
//! with what has to happen at the end hanging on the body itself.

use std::time::Duration;

mod answer;
mod upload;

pub(crate) use answer::{Exchange, ResponseBody};
pub(crate) use upload::{RequestBody, Upload, UploadGuard, UploadStage};

/// What ended a body early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("reading the body failed")]
    Read(#[source] hyper::Error),
    #[error("no data for {} s", .0.as_secs())]
    Idle(Duration),
    #[error("the session was revoked")]
    Revoked,
    #[error("the exchange is over")]
    Over,
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
}
