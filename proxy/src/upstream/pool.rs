//! The connections of one route on one worker thread.
//!
//! HTTP/1 connections lie idle in a stack, so that the one used last, which is
//! the least likely to have died, is used next. An HTTP/2 connection carries
//! many requests at once and is shared.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::HOST;
use http::uri::{self, Authority};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::Upstream;
use super::connect::{ConnectError, Connector, Protocol, UpstreamStream};
use super::driver::Driver;
use super::request_body::RequestBody;
use crate::base::chain;
use crate::base::executor::LocalExecutor;

/// Most requests that share an HTTP/2 connection; servers commonly allow 100.
const MAX_STREAMS: u32 = 100;

/// Pause between two pings of a silent HTTP/2 upstream, so that a
/// half-open connection is found and left.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// HTTP/2 windows: how much of an answer is on its way before it is read. The
/// connection's has room for every stream's, so that clients that do not read
/// their answers use up nobody else's.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = MAX_STREAMS * STREAM_WINDOW_BYTES;
const MAX_HEADER_LIST_BYTES: u32 = 256 * 1024;

/// Largest head of an answer.
const MAX_ANSWER_HEAD_BYTES: usize = 256 * 1024;

/// The connections of one route on one worker thread.
#[derive(Debug)]
pub(crate) struct Pool {
    upstream: Arc<Upstream>,
    connector: Rc<Connector>,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Shared>>,
    max_idle: usize,
    max_idle_time: Duration,
}

#[derive(Debug)]
struct Idle {
    connection: Exclusive,
    since: Instant,
}

/// An HTTP/1 connection, for one request at a time.
#[derive(Debug)]
struct Exclusive {
    sender: http1::SendRequest<RequestBody>,
    driver: Driver,
}

/// An HTTP/2 connection.
#[derive(Clone, Debug)]
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    streams: Rc<Cell<u32>>,
    authority: Authority,
}

/// A connection in use for one request. Dropped before it is given back, an
/// HTTP/1 connection is closed at once, and an HTTP/2 stream is reset: what is
/// left of the exchange must not reach anybody.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Connection,
    pool: Rc<Pool>,
    is_reused: bool,
}

#[derive(Debug)]
enum Connection {
    Exclusive(Exclusive),
    Shared {
        connection: Shared,
        _slot: StreamSlot,
    },
}

/// One of the streams of an HTTP/2 connection, counted until this is dropped.
/// The stream is reset by the request or the body that is dropped.
#[derive(Debug)]
struct StreamSlot(Rc<Cell<u32>>);

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// No byte was sent, so the request can go to another connection.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    /// It may have reached the upstream.
    Sent(hyper::Error),
}

impl Pool {
    pub(crate) const fn new(
        upstream: Arc<Upstream>,
        connector: Rc<Connector>,
        max_idle: usize,
        max_idle_time: Duration,
    ) -> Self {
        Self {
            upstream,
            connector,
            idle: RefCell::new(Vec::new()),
            shared: RefCell::new(Vec::new()),
            max_idle,
            max_idle_time,
        }
    }

    /// A connection that can take a request: a shared one, the one used last,
    /// or a new one.
    pub(crate) async fn lease(self: &Rc<Self>) -> Result<Lease, ConnectError> {
        if let Some(shared) = self.shared_with_capacity() {
            return Ok(self.lend(shared.stream(), true));
        }
        if let Some(connection) = self.pop() {
            return Ok(self.lend(Connection::Exclusive(connection), true));
        }
        let (io, protocol) = self.connector.connect(&self.upstream).await?;
        let connection = match protocol {
            Protocol::Http1 => Connection::Exclusive(exclusive(io).await?),
            Protocol::Http2 => self.share(io).await?.stream(),
        };
        Ok(self.lend(connection, false))
    }

    /// A new HTTP/1 connection, which an upgrade can take over.
    pub(crate) async fn lease_for_upgrade(self: &Rc<Self>) -> Result<Lease, ConnectError> {
        let io = self.connector.connect_http1(&self.upstream).await?;
        let mut connection = exclusive(io).await?;
        connection.driver.allow_upgrade();
        Ok(self.lend(Connection::Exclusive(connection), false))
    }

    fn lend(self: &Rc<Self>, connection: Connection, is_reused: bool) -> Lease {
        Lease {
            connection,
            pool: Rc::clone(self),
            is_reused,
        }
    }

    fn shared_with_capacity(&self) -> Option<Shared> {
        let mut shared = self.shared.borrow_mut();
        if shared.is_empty() {
            return None;
        }
        shared.retain(|connection| !connection.sender.is_closed());
        let has_capacity = |connection: &&Shared| connection.streams.get() < MAX_STREAMS;
        shared.iter().find(has_capacity).cloned()
    }

    async fn share(&self, io: UpstreamStream) -> Result<Shared, ConnectError> {
        let (sender, driver) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(MAX_HEADER_LIST_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Handshake)?;
        tokio::task::spawn_local(async move {
            if let Err(error) = driver.await {
                tracing::debug!("upstream connection ended: {}", chain(&error));
            }
        });
        let authority = self.upstream.authority();
        let connection = Shared {
            sender,
            streams: Rc::default(),
            authority: Authority::try_from(authority.as_str())
                .map_err(|_| ConnectError::NoAddress { host: authority })?,
        };
        self.shared.borrow_mut().push(connection.clone());
        Ok(connection)
    }

    fn pop(&self) -> Option<Exclusive> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut idle) = idle.pop() {
            if self.is_good(&mut idle) && idle.connection.sender.is_ready() {
                return Some(idle.connection);
            }
        }
        None
    }

    /// Closes connections that have been idle for too long or were closed by
    /// the upstream.
    pub(crate) fn prune(&self) {
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(|idle| self.is_good(idle));
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| !connection.sender.is_closed());
    }

    fn is_good(&self, idle: &mut Idle) -> bool {
        idle.since.elapsed() < self.max_idle_time && idle.connection.driver.is_open()
    }
}

impl Shared {
    /// The connection, for one request more.
    fn stream(self) -> Connection {
        self.streams.set(self.streams.get() + 1);
        Connection::Shared {
            _slot: StreamSlot(Rc::clone(&self.streams)),
            connection: self,
        }
    }
}

async fn exclusive(io: UpstreamStream) -> Result<Exclusive, ConnectError> {
    let (sender, driver) = http1::Builder::new()
        .max_header_size(MAX_ANSWER_HEAD_BYTES)
        .handshake(TokioIo::new(io))
        .await
        .map_err(ConnectError::Handshake)?;
    let driver = Driver::new(driver);
    Ok(Exclusive { sender, driver })
}

impl Lease {
    /// Whether the connection has carried a request before, so that it may have
    /// died meanwhile without anybody noticing.
    pub(crate) const fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        let sent = match &mut self.connection {
            Connection::Exclusive(Exclusive { sender, driver }) => {
                let mut sending = pin!(sender.try_send_request(request));
                poll_fn(|cx| driver.drive(cx, |cx| sending.as_mut().poll(cx))).await
            }
            Connection::Shared { connection, .. } => {
                let request = for_http2(request, &connection.authority);
                connection.sender.try_send_request(request).await
            }
        };
        sent.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::Unsent(Box::new(for_http1(request)), error.into_error()),
            None => SendError::Sent(error.into_error()),
        })
    }

    /// Polls for what comes over the connection, and drives it meanwhile.
    pub(crate) fn drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match &mut self.connection {
            Connection::Exclusive(connection) => connection.driver.drive(cx, poll),
            Connection::Shared { .. } => poll(cx),
        }
    }

    /// Drives the connection in a task of its own from now on, for a request
    /// that goes on while nobody asks for more of its answer.
    pub(crate) fn detach(&mut self) {
        if let Connection::Exclusive(connection) = &mut self.connection {
            connection.driver.detach();
        }
    }

    /// Puts the connection back for the next request.
    pub(crate) fn give_back(self) {
        if let Connection::Exclusive(connection) = self.connection {
            self.pool.keep(connection);
        }
    }
}

impl Pool {
    fn keep(&self, connection: Exclusive) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.max_idle && connection.driver.is_here() {
            let since = Instant::now();
            idle.push(Idle { connection, since });
        }
    }
}

/// The request as HTTP/2 has it, where scheme and authority are part of the
/// target and `Host` is not sent.
fn for_http2(mut request: Request<RequestBody>, authority: &Authority) -> Request<RequestBody> {
    request.headers_mut().remove(HOST);
    *request.version_mut() = Version::HTTP_2;
    let mut parts = uri::Parts::default();
    parts.scheme = Some(uri::Scheme::HTTPS);
    parts.authority = Some(authority.clone());
    parts.path_and_query = request.uri().path_and_query().cloned();
    // A scheme, an authority and a path are a whole target.
    if let Ok(target) = Uri::from_parts(parts) {
        *request.uri_mut() = target;
    }
    request
}

/// The request as HTTP/1 has it, as it was before it was offered to HTTP/2.
fn for_http1(mut request: Request<RequestBody>) -> Request<RequestBody> {
    let Some(authority) = request.uri().authority() else {
        return request;
    };
    if let Ok(host) = http::HeaderValue::from_str(authority.as_str()) {
        request.headers_mut().insert(HOST, host);
    }
    *request.version_mut() = Version::HTTP_11;
    if let Some(target) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(target);
    }
    request
}
