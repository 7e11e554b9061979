//! The client of the admin surface, for `credential-proxy session`.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use drawbridge_io::http::{ExchangeError, Limits, exchange};
use http::header::HOST;
use http::{Method, Request};
use http_body_util::Full;
use tokio::net::UnixStream;

pub(crate) use super::session::IssueRequest;

/// Bounds of one answer, which may be a list of many sessions.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(60),
    max_bytes: 64 * 1024 * 1024,
};

/// Why the proxy gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("no proxy listens on {socket}")]
    Connect {
        socket: String,
        source: std::io::Error,
    },
    #[error("the request is not valid")]
    Request(#[from] http::Error),
    #[error("the exchange with the proxy failed")]
    Exchange(#[from] ExchangeError),
    #[error("{message}")]
    Refused {
        message: String,
        hint: Option<String>,
    },
}

impl AdminError {
    /// The fix, if one is known.
    #[must_use]
    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Connect { socket, .. } => {
                Some(format!("start credential-proxy with --admin-socket {socket}").into())
            }
            Self::Refused { hint, .. } => hint.clone().map(Cow::Owned),
            _ => None,
        }
    }
}

/// Sends one request to the admin socket; the answer is JSON.
pub(crate) async fn call(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<String, AdminError> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|source| AdminError::Connect {
        socket: socket.display().to_string(),
        source,
    })?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "admin")
        .body(Full::new(Bytes::from(body)))?;
    let (status, answer) = exchange(stream, request, LIMITS).await?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    if status.is_success() {
        return Ok(text);
    }
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let field = |name| Some(answer.get(name)?.as_str()?.to_owned());
    Err(AdminError::Refused {
        message: field("error").unwrap_or_else(|| status.to_string()),
        hint: field("hint"),
    })
}
