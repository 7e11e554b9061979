//! The admin surface: sessions for other launchers, health, metrics, reloading.
//!
//! It is HTTP on a unix socket that only the proxy's own user can open. Health
//! and metrics can be had on a loopback address too. No listener that a
//! container can reach serves any of it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::sync::watch;

use super::{Shared, session};
use crate::observe::metrics;
use crate::server::{ACCEPT_PAUSE, Acceptor, Socket};

/// The part of the surface that a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything.
    Full,
    /// Health and metrics.
    Health,
}

/// Largest request body, in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// The longest an admin client may take for one message.
const DEADLINE: Duration = Duration::from_secs(10);

/// Serves until the listener closes.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    socket: Socket,
    scope: Scope,
    mut closed: watch::Receiver<()>,
) -> io::Result<()> {
    let acceptor = Acceptor::new(socket)?;
    loop {
        let accepted = tokio::select! {
            _ = closed.changed() => return Ok(()),
            accepted = acceptor.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            // The host may be out of something now; the surface is to outlast it.
            Err(error) => {
                tracing::warn!(%error, "an admin connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(answer(&shared, scope, request).await) }
        });
        tokio::task::spawn_local(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(DEADLINE)
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn answer(
    shared: &Shared,
    scope: Scope,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    match (&head.method, head.uri.path(), scope) {
        (&Method::GET, "/healthz", _) => ok(&json!({
            "status": "ok",
            "uptime_seconds": shared.started.elapsed().as_secs(),
        })),
        (&Method::GET, "/metrics", _) => text(shared.telemetry.metrics().render()),
        (&Method::GET, "/stats" | "/sessions", Scope::Full) => ok(&session::list(shared)),
        (&Method::POST, "/sessions", Scope::Full) => match read(body).await {
            Ok(body) => session::issue(shared, &body),
            Err(problem) => error(StatusCode::BAD_REQUEST, &problem),
        },
        (&Method::DELETE, path, Scope::Full) => match path.strip_prefix("/sessions/") {
            Some(id) => session::revoke(shared, id),
            None => not_found(),
        },
        (&Method::POST, "/reload", Scope::Full) => match shared.reload().await {
            Ok(routes) => ok(&json!({ "routes": routes })),
            Err(problem) => error(StatusCode::CONFLICT, &problem),
        },
        _ => not_found(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a request of the admin client is small and bounded, and parsed whole"
)]
async fn read(body: Incoming) -> Result<Bytes, String> {
    let reading = Limited::new(body, MAX_BODY_BYTES).collect();
    match tokio::time::timeout(DEADLINE, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(format!("the request body cannot be read: {error}")),
        Err(_) => Err("the request body did not arrive in time".to_owned()),
    }
}

pub(super) fn ok(value: &serde_json::Value) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, "application/json", value.to_string())
}

pub(super) fn error(status: StatusCode, problem: &str) -> Response<Full<Bytes>> {
    refusal(status, problem, None)
}

/// An error, with its hint in a field of its own.
pub(super) fn refusal(
    status: StatusCode,
    problem: &str,
    hint: Option<Cow<'static, str>>,
) -> Response<Full<Bytes>> {
    let mut body = json!({ "error": problem });
    if let Some(hint) = hint {
        body["hint"] = json!(hint);
    }
    respond(status, "application/json", body.to_string())
}

fn not_found() -> Response<Full<Bytes>> {
    error(
        StatusCode::NOT_FOUND,
        "no such resource, or not on this listener",
    )
}

fn text(body: String) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, metrics::MEDIA_TYPE, body)
}

fn respond(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}
