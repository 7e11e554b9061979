//! The client of the admin surface, for `credential-proxy session`.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

pub(crate) use super::session::IssueRequest;

/// Largest answer, in bytes: a list of many sessions.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

const DEADLINE: Duration = Duration::from_secs(60);

/// Why the proxy gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("no proxy listens on {socket}")]
    Connect {
        socket: String,
        source: std::io::Error,
    },
    #[error("the conversation with the proxy failed")]
    Exchange(#[from] hyper::Error),
    #[error("the answer cannot be read")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the proxy did not answer within {} s", DEADLINE.as_secs())]
    Timeout,
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
    let calling = exchange(socket, method, path, body);
    let answer = tokio::time::timeout(DEADLINE, calling).await;
    let (status, text) = answer.map_err(|_| AdminError::Timeout)??;
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

#[expect(
    clippy::disallowed_methods,
    reason = "the answer is bounded and parsed whole"
)]
async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, String), AdminError> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|source| AdminError::Connect {
        socket: socket.display().to_string(),
        source,
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = method;
    *request.uri_mut() = path
        .parse()
        .map_err(|error| AdminError::Answer(Box::new(error)))?;
    let host = HeaderValue::from_static("admin");
    request.headers_mut().insert(HOST, host);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(AdminError::Answer)?.to_bytes();
    driver.abort();
    Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
}
