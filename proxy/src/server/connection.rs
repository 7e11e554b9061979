//! Client connections: accepted, served, and ended in order.

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use super::client_io::{ClientIo, Stream};
use super::listener::{Acceptor, Socket};
use super::worker::{ConnectionCount, Worker};
use crate::request;
use crate::session::{ListenerId, Origin};

/// Pause after an accept that failed because the host ran out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Largest request head. Claude Code's is below 4 KB; hyper wants 8 KB at least.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;

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
        let Some(count) = worker.count_connection() else {
            tracing::warn!("too many connections");
            continue;
        };
        let ends = (closed.clone(), draining.clone());
        tokio::task::spawn_local(serve(Rc::clone(&worker), stream, listener, ends, count));
    }
}

/// Serves one connection to its end. When listener or proxy close, the request
/// in flight is finished first.
async fn serve(
    worker: Rc<Worker>,
    stream: Stream,
    listener: ListenerId,
    (mut closed, mut draining): (watch::Receiver<()>, watch::Receiver<()>),
    _count: ConnectionCount,
) {
    let origin = Origin {
        listener,
        peer: stream.peer(),
    };
    let deadlines = *worker.deadlines();
    let service = service_fn(move |request| {
        let worker = Rc::clone(&worker);
        async move { Ok::<_, Infallible>(request::serve(worker, origin, request).await) }
    });
    let io = TokioIo::new(ClientIo::new(stream, deadlines.idle));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(deadlines.head)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(io, service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = closed.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        _ = draining.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "client connection ended");
    }
}
