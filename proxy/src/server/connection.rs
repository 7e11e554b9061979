//! Client connections: accepted, served, and ended cleanly.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use super::client_io::{ClientIo, First};
use super::listener::{Acceptor, Socket, Stream, peer};
use super::stall::{Stall, StreamExecutor};
use super::worker::{ConnectionCount, Worker};
use crate::base::chain;
use crate::http1::{MAX_HEAD_BYTES, MAX_HEADERS, WireGuard};
use crate::policy::Deadlines;
use crate::request::{self, Client, RequestContext};
use crate::session::{ListenerId, Origin};

/// Pause after an accept that failed because the host ran out of something.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bounds on what one HTTP/2 connection can make the proxy hold or do. Streams
/// that are reset faster than they are served end the connection (rapid reset,
/// CVE-2023-44487, and its later forms).
const MAX_STREAMS: u32 = 128;
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
const MAX_RESET_STREAMS: usize = 64;
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Pause between two pings of a silent HTTP/2 client.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Accepts connections until the listener closes or the proxy drains.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    socket: Socket,
    listener: ListenerId,
    mut closed: watch::Receiver<()>,
    mut draining: watch::Receiver<()>,
) {
    let acceptor = match Acceptor::new(socket) {
        Ok(acceptor) => acceptor,
        Err(error) => return tracing::error!(%error, "a listener could not be used"),
    };
    loop {
        let accepted = tokio::select! {
            biased;
            _ = closed.changed() => return,
            _ = draining.changed() => return,
            accepted = acceptor.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // One connection too many is closed; the ones that are served go on.
        let peer = peer(&stream);
        let origin = Origin { listener, peer };
        let Some(count) = worker.count_connection(origin) else {
            tracing::debug!(?peer, "too many connections");
            continue;
        };
        let ends = (closed.clone(), draining.clone());
        tokio::task::spawn_local(serve(
            Rc::clone(worker.requests()),
            stream,
            origin,
            ends,
            count,
        ));
    }
}

/// Serves one connection to its end. When listener or proxy close, the request
/// in flight is finished first.
async fn serve(
    context: Rc<RequestContext>,
    mut stream: Stream,
    origin: Origin,
    (mut closed, mut draining): (watch::Receiver<()>, watch::Receiver<()>),
    _count: ConnectionCount,
) {
    let deadlines = *context.deadlines();
    let first = tokio::select! {
        first = tokio::time::timeout(deadlines.head, First::read(&mut stream)) => first,
        _ = closed.changed() => return,
        _ = draining.changed() => return,
    };
    let Ok(Ok(first)) = first else { return };
    if first.is_empty() {
        return;
    }
    let client = Client::new(origin);
    let io = {
        let client = client.clone();
        move |guard| TokioIo::new(ClientIo::new(stream, first, guard, &client, &deadlines))
    };
    let ends = (closed, draining);
    let ended = if first.is_http2() {
        let streams = StreamExecutor::default();
        let connection = http2(streams.clone()).serve_connection(
            io(WireGuard::passing()),
            service_fn(|request| {
                let (context, client) = (Rc::clone(&context), client.clone());
                let stall = Stall::new(deadlines.idle);
                streams.expect(&stall);
                async move {
                    let answer = request::serve(context, client, request).await;
                    Ok::<_, Infallible>(stall.watch(answer))
                }
            }),
        );
        let silence = (
            streams.idle(deadlines.keep_alive),
            streams.idle(deadlines.idle),
        );
        until_closed(Box::pin(connection), ends, silence, |connection| {
            connection.graceful_shutdown()
        })
        .await
    } else {
        let service = service_fn(move |request| {
            let (context, client) = (Rc::clone(&context), client.clone());
            // In a box of its own, which is gone while an answer streams: the library
            // keeps the room of this future for as long as the connection.
            async move { Ok::<_, Infallible>(Box::pin(request::serve(context, client, request)).await) }
        });
        let connection = http1(&deadlines)
            .serve_connection(io(WireGuard::new()), service)
            .with_upgrades();
        // The library itself closes one that is silent between two requests.
        let silence = (pending(), pending());
        until_closed(Box::pin(connection), ends, silence, |connection| {
            connection.graceful_shutdown()
        })
        .await
    };
    if let Err(error) = ended {
        tracing::debug!("client connection ended: {}", chain(&error));
    }
}

/// Runs a connection to its end, which is asked for when listener or proxy
/// close, or after a first silence, and is there after a second one at the latest:
/// a client can have sent another request before it learns of the end.
///
/// The connection is in a box, for this future would hold it twice, and room for
/// the larger one of HTTP/2 with one of HTTP/1.
async fn until_closed<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<Box<C>>,
    (mut closed, mut draining): (watch::Receiver<()>, watch::Receiver<()>),
    (silence, more_silence): (impl Future<Output = ()>, impl Future<Output = ()>),
    shut_down: impl Fn(Pin<&mut C>),
) -> hyper::Result<()> {
    let is_silent = tokio::select! {
        ended = connection.as_mut() => return ended,
        _ = closed.changed() => false,
        _ = draining.changed() => false,
        () = silence => true,
    };
    shut_down(connection.as_mut());
    tokio::select! {
        ended = connection => ended,
        () = more_silence, if is_silent => Ok(()),
    }
}

fn http1(deadlines: &Deadlines) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The stream itself limits a head that has begun.
        .header_read_timeout(deadlines.keep_alive)
        .max_buf_size(2 * MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    builder
}

fn http2(streams: StreamExecutor) -> http2::Builder<StreamExecutor> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_RESET_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
