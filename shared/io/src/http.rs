//! A small HTTP/1 client over any stream.
//!
//! Connecting, addresses and deadlines are the caller's: streams differ, and so
//! does what a wait means to each program.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyDataStream, BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::StreamExt;
use tokio_util::io::StreamReader;
use tokio_util::task::AbortOnDropHandle;

/// A connection that sends one request after the other.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    driver: Arc<AbortOnDropHandle<()>>,
}

impl Client {
    /// A client that talks over a connected stream.
    ///
    /// # Errors
    /// The stream is closed.
    pub async fn new(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> hyper::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // The same error reaches the reader of the response.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            driver: Arc::new(AbortOnDropHandle::new(driver)),
        })
    }

    /// Sends a request and waits for the head of its response. The connection
    /// lives as long as the client or the body of a response.
    ///
    /// # Errors
    /// The peer breaks the connection or the protocol.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Body>> {
        let response = self.sender.send_request(request).await?;
        Ok(response.map(|incoming| Body {
            incoming,
            _driver: Arc::clone(&self.driver),
        }))
    }
}

/// The body of a response. Dropping it gives up the rest.
pub struct Body {
    incoming: Incoming,
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

impl Body {
    /// The next piece, or `None` at the end. Trailers are skipped.
    ///
    /// # Errors
    /// The peer breaks the connection or the protocol.
    pub async fn next(&mut self) -> hyper::Result<Option<Bytes>> {
        while !self.incoming.is_end_stream() {
            let Some(frame) = self.incoming.frame().await else {
                break;
            };
            if let Ok(piece) = frame?.into_data() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// The whole body, of up to `limit` bytes.
    ///
    /// # Errors
    /// The body is longer, or breaks off.
    pub async fn read_to_end(mut self, limit: usize) -> Result<Vec<u8>, ExchangeError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next().await? {
            if bytes.len() + piece.len() > limit {
                return Err(ExchangeError::TooLong(limit));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// The body as a stream of bytes, for [`LineReader`](crate::lines::LineReader).
    #[must_use]
    pub fn into_reader(self) -> impl AsyncRead + Send + Unpin {
        let Self { incoming, _driver } = self;
        let pieces = BodyDataStream::new(incoming).map(move |piece| {
            // The connection lives as long as its body.
            let _ = &_driver;
            piece.map_err(io::Error::other)
        });
        StreamReader::new(pieces)
    }
}

/// Bounds of one whole exchange.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time from the request to the last byte of the answer.
    pub deadline: Duration,
    /// Largest answer, in bytes.
    pub max_bytes: usize,
}

/// The failure of an exchange.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The peer breaks the connection or the protocol.
    #[error("the exchange broke off")]
    Http(#[from] hyper::Error),
    /// The answer is larger than allowed.
    #[error("the answer has more than {0} bytes")]
    TooLong(usize),
    /// The deadline passed.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
}

/// Sends one request over a stream and reads the whole answer.
///
/// # Errors
/// The exchange fails or exceeds a limit.
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    limits: Limits,
) -> Result<(StatusCode, Vec<u8>), ExchangeError> {
    let exchange = async {
        let (head, body) = Client::new(stream).await?.send(request).await?.into_parts();
        Ok((head.status, body.read_to_end(limits.max_bytes).await?))
    };
    let late = |_| ExchangeError::Late(limits.deadline);
    tokio::time::timeout(limits.deadline, exchange)
        .await
        .map_err(late)?
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::lines::{Line, LineReader};

    const LIMITS: Limits = Limits {
        deadline: Duration::from_secs(10),
        max_bytes: 8,
    };

    /// A server that reads a request's head, answers and leaves.
    fn server(answer: &'static str) -> DuplexStream {
        let (ours, mut theirs) = duplex(1024);
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(theirs.read_u8().await.unwrap());
            }
            theirs.write_all(answer.as_bytes()).await.unwrap();
        });
        ours
    }

    fn request() -> Request<Full<Bytes>> {
        Request::get("/").body(Full::default()).unwrap()
    }

    #[tokio::test]
    async fn an_exchange_gives_status_and_body() {
        let server = server("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone");
        let (status, body) = exchange(server, request(), LIMITS).await.unwrap();
        assert_eq!((status, body), (StatusCode::NOT_FOUND, b"none".to_vec()));
    }

    #[tokio::test]
    async fn an_answer_is_bounded_in_length_and_time() {
        let long = server("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ntoo long!");
        let error = exchange(long, request(), LIMITS).await.unwrap_err();
        assert!(matches!(error, ExchangeError::TooLong(8)), "{error}");
        let (silent, _peer) = duplex(1024);
        let limits = Limits {
            deadline: Duration::from_millis(50),
            ..LIMITS
        };
        let error = exchange(silent, request(), limits).await.unwrap_err();
        assert!(matches!(error, ExchangeError::Late(_)), "{error}");
    }

    #[tokio::test]
    async fn a_body_can_be_read_in_lines_after_its_client_is_gone() {
        let server = server("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\none\ntwo");
        let response = Client::new(server).await.unwrap().send(request()).await;
        let mut lines = LineReader::new(response.unwrap().into_body().into_reader(), 8);
        for line in ["one", "two"] {
            let line = Line::Whole(line.as_bytes().to_vec());
            assert_eq!(lines.next().await.unwrap(), Some(line));
        }
        assert_eq!(lines.next().await.unwrap(), None);
    }
}
