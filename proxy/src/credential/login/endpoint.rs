//! One request to an OAuth token endpoint.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use drawbridge_io::http::{Body, Client};
use http::header::{ACCEPT, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::upstream::connect::{ConnectError, Connector};
use crate::upstream::{InvalidUpstream, Upstream};

use super::document::{Document, secret};
use crate::secret::Secret;

/// Longest exchange, from connecting to the answer's last byte. It is less
/// than half of what makes a lock stale.
const DEADLINE: Duration = Duration::from_secs(20);

/// Largest answer, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// Longest wait that an endpoint may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// Opens connections to token endpoints.
pub(in crate::credential) trait Connect: fmt::Debug + Send + Sync {
    fn connect<'a>(&'a self, endpoint: &'a EndpointUrl) -> Connecting<'a>;
}

/// A connection that is being opened.
pub(in crate::credential) type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<Box<dyn Connection>, ConnectError>> + Send + 'a>>;

/// A connection to a token endpoint.
pub(in crate::credential) trait Connection:
    AsyncRead + AsyncWrite + Send + Unpin
{
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// The URL of a token endpoint: `https`, or `http` on loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::credential) struct EndpointUrl {
    upstream: Upstream,
    /// Path and query.
    target: String,
}

impl EndpointUrl {
    /// Checks a URL. It is the operator's choice, so its name may lead into a
    /// private network.
    pub(in crate::credential) fn parse(text: &str) -> Result<Self, InvalidUpstream> {
        let invalid = || InvalidUpstream::NotAUrl(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let scheme = uri.scheme_str().ok_or_else(invalid)?;
        let authority = uri.authority().ok_or_else(invalid)?;
        Ok(Self {
            upstream: Upstream::parse(&format!("{scheme}://{authority}"), true)?,
            target: uri
                .path_and_query()
                .map_or("/", |target| target.as_str())
                .to_owned(),
        })
    }
}

/// Without path and query, which may hold more than a place.
impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.upstream.authority())
    }
}

/// The way that requests to upstreams take too: every address is vetted.
#[derive(Debug)]
pub(in crate::credential) struct DirectConnect(Connector);

impl DirectConnect {
    /// With these settings.
    pub(in crate::credential) const fn new(connector: Connector) -> Self {
        Self(connector)
    }
}

impl Connect for DirectConnect {
    fn connect<'a>(&'a self, endpoint: &'a EndpointUrl) -> Connecting<'a> {
        Box::pin(async {
            let io = self.0.connect_http1(&endpoint.upstream).await?;
            Ok(Box::new(io) as Box<dyn Connection>)
        })
    }
}

/// New tokens.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) access: Secret,
    /// Absent when the old one stays good.
    pub(super) refresh: Option<Secret>,
    pub(super) id_token: Option<Secret>,
    pub(super) expires_in: Option<Duration>,
    pub(super) scope: Option<String>,
}

/// Why there are no new tokens. It never holds a part of a token.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndpointError {
    /// The login is over.
    #[error("it answered {status} ({code})")]
    Refused {
        status: StatusCode,
        code: &'static str,
    },
    #[error("it answered {status}")]
    Failed {
        status: StatusCode,
        retry_after: Option<Duration>,
    },
    #[error("it cannot be reached")]
    Unreachable(#[source] ConnectError),
    #[error("the exchange with it broke off")]
    Broken(#[from] hyper::Error),
    #[error("it did not answer within {} s", DEADLINE.as_secs())]
    Timeout,
    #[error("its answer has more than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("its answer holds no access token")]
    NoToken,
}

/// Sends one request and reads the answer, within the deadline.
pub(super) async fn exchange(
    connect: &dyn Connect,
    endpoint: &EndpointUrl,
    content_type: &'static str,
    body: Zeroizing<Vec<u8>>,
) -> Result<Answer, EndpointError> {
    let exchange = async {
        let io = connect
            .connect(endpoint)
            .await
            .map_err(EndpointError::Unreachable)?;
        let request = request(endpoint, content_type, body).ok_or(EndpointError::NoToken)?;
        let mut client = Client::new(io).await?;
        let (head, body) = client.send(request).await?.into_parts();
        let content = read(body).await?;
        interpret(head.status, &head.headers, &content)
    };
    tokio::time::timeout(DEADLINE, exchange)
        .await
        .unwrap_or(Err(EndpointError::Timeout))
}

fn request(
    endpoint: &EndpointUrl,
    content_type: &'static str,
    body: Zeroizing<Vec<u8>>,
) -> Option<Request<Full<Bytes>>> {
    Request::builder()
        .method(Method::POST)
        .uri(&endpoint.target)
        .header(HOST, endpoint.upstream.host_header())
        .header(CONTENT_TYPE, content_type)
        .header(ACCEPT, "application/json")
        .header(
            USER_AGENT,
            concat!("drawbridge/", env!("CARGO_PKG_VERSION")),
        )
        .body(Full::new(Bytes::from_owner(body)))
        .ok()
}

/// The whole answer, in a buffer that never moves and is cleared.
async fn read(mut body: Body) -> Result<Zeroizing<Vec<u8>>, EndpointError> {
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
    while let Some(piece) = body.next().await? {
        if content.len() + piece.len() > MAX_ANSWER {
            return Err(EndpointError::TooLong);
        }
        content.extend_from_slice(&piece);
    }
    Ok(content)
}

fn interpret(
    status: StatusCode,
    headers: &HeaderMap,
    content: &[u8],
) -> Result<Answer, EndpointError> {
    let document = Document::parse(content).ok();
    let object = document
        .as_ref()
        .and_then(|document| document.object("").ok());
    if status.is_success() {
        let object = object.ok_or(EndpointError::NoToken)?;
        let text = |field: &str| object.get(field).and_then(Value::as_str);
        let optional = |field| secret(object, field).map_err(|_| EndpointError::NoToken);
        return Ok(Answer {
            access: optional("access_token")?.ok_or(EndpointError::NoToken)?,
            refresh: optional("refresh_token")?,
            id_token: optional("id_token")?,
            expires_in: object
                .get("expires_in")
                .and_then(Value::as_u64)
                .map(Duration::from_secs),
            scope: text("scope").map(str::to_owned),
        });
    }
    let code = object.and_then(|object| error_code(object.get("error")?));
    match (status, code) {
        (_, Some(code)) if status.is_client_error() => Err(EndpointError::Refused { status, code }),
        (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED, _) => Err(EndpointError::Refused {
            status,
            code: "without an error code that is known",
        }),
        _ => Err(EndpointError::Failed {
            status,
            retry_after: retry_after(headers),
        }),
    }
}

/// The error code of an answer, if it is one that ends a login. Any other text
/// there is not repeated: it may hold what was sent.
fn error_code(error: &Value) -> Option<&'static str> {
    const KNOWN: [&str; 8] = [
        "invalid_grant",
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        // OpenAI's, which stand in an object.
        "refresh_token_expired",
        "refresh_token_reused",
        "refresh_token_invalidated",
    ];
    let code = match error {
        Value::Object(object) => object.get("code")?.as_str()?,
        other => other.as_str()?,
    };
    KNOWN.into_iter().find(|known| *known == code)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}
