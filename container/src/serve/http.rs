//! The unix socket: one path for commands, one for the stream of events.
//!
//! ```text
//! POST /v1/commands                       one command, one answer, both JSON
//! GET  /v1/events?since=N&submission=ID&follow=true     NDJSON
//! ```
//!
//! Who is let in: the user that `serve` runs as, with the token in its folder.
//! The token keeps out agents that run as that user under a sandbox, which
//! cannot read the folder but could reach the socket.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drawbridge_shared::exit::Exit;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::geteuid;
use serde::Serialize;
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{Answer, Refusal, to_line};
use super::api::perform;
use super::command::Command;
use super::hub::{Hub, Phase};
use super::stream::{self, Wanted};
use super::token::Token;
use crate::error::{Context, Error, Result};

/// Largest command, in bytes.
const MAX_BODY: usize = 32 * 1024 * 1024;
/// Longest time in which a client has to send its head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Longest time in which it has to send a command.
const BODY_TIME: Duration = Duration::from_secs(60);
/// Longest time in which clients have to read the last answers when `serve` ends.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Pages of events that wait for a slow reader.
const WAITING_PAGES: usize = 2;
/// When to come back to a full queue, in seconds.
const FULL_PAUSE: &str = "5";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves callers until `serve` is over, and lets them read how it all ended.
pub(super) async fn listen(listener: UnixListener, hub: Arc<Hub>, token: Arc<Token>) {
    let mut callers = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = callers.join_next() => continue,
            () = hub.reached(Phase::Stopped) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely; runs that end free some.
                tracing::warn!("cannot accept a caller: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Err(error) = require_this_user(&stream) {
            tracing::warn!("{}", error.one_line());
            continue;
        }
        callers.spawn_local(converse(stream, Arc::clone(&hub), Arc::clone(&token)));
    }
    let farewell = async { while callers.join_next().await.is_some() {} };
    if timeout(SHUTDOWN_GRACE, farewell).await.is_err() {
        tracing::debug!("callers that do not read are cut off");
    }
}

fn require_this_user(stream: &UnixStream) -> Result<()> {
    let peer = stream.peer_cred();
    let peer = peer.context(|| Error::infrastructure("a caller has no credentials"))?;
    let (uid, ours) = (peer.uid(), geteuid().as_raw());
    if uid == ours || uid == 0 {
        return Ok(());
    }
    Err(Error::usage(format!("user {uid} may not connect")))
}

async fn converse(stream: UnixStream, hub: Arc<Hub>, token: Arc<Token>) {
    let service = service_fn(|request| {
        let (hub, token) = (Arc::clone(&hub), Arc::clone(&token));
        async move { Ok::<_, Infallible>(respond(request, &hub, &token).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = hub.reached(Phase::Stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = done {
        tracing::debug!("a caller went away: {error}");
    }
}

async fn respond(request: Request<Incoming>, hub: &Arc<Hub>, token: &Token) -> Response<Body> {
    match answer(request, hub, token).await {
        Ok(response) => response,
        Err(error) => refusal(&error),
    }
}

async fn answer(
    request: Request<Incoming>,
    hub: &Arc<Hub>,
    token: &Token,
) -> Result<Response<Body>> {
    let presented = request.headers().get(AUTHORIZATION);
    if !presented.is_some_and(|value| token.is_presented_in(value.as_bytes())) {
        let hint = "send `authorization: Bearer TOKEN` with the token of the serve folder";
        let body = json!({ "error": "the token is missing or wrong", "hint": hint });
        return respond_json(StatusCode::UNAUTHORIZED, &body);
    }
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/v1/commands") => {
            let text = read(request.into_body()).await?;
            let answer = perform_wholly(hub, Command::parse(&text)?).await?;
            respond_json(StatusCode::OK, &answer)
        }
        (&Method::GET, "/v1/events") => {
            let wanted = Wanted::parse(request.uri().query().unwrap_or_default())?;
            Ok(stream_events(Arc::clone(hub), wanted))
        }
        (method, path) => {
            let body = json!({ "error": format!("there is no {method} {path}") });
            respond_json(StatusCode::NOT_FOUND, &body)
        }
    }
}

/// Carries out a command to its end, also when the caller goes away: what is
/// written down must come into the queue too.
async fn perform_wholly(hub: &Arc<Hub>, command: Command) -> Result<Answer> {
    let hub = Arc::clone(hub);
    let performing = tokio::task::spawn_local(async move { perform(&hub, command).await });
    let failed = || Error::infrastructure("the command was interrupted");
    performing.await.context(failed)?
}

async fn read(body: Incoming) -> Result<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a command is read whole, with a bound"
    )]
    let whole = Limited::new(body, MAX_BODY).collect();
    let whole = timeout(BODY_TIME, whole).await;
    let whole = whole.map_err(|_| Error::usage("the command takes too long to arrive"))?;
    let bytes = whole
        .map_err(|cause| Error::usage("the command cannot be read").caused_by(cause))?
        .to_bytes();
    String::from_utf8(bytes.into()).context(|| Error::usage("the command is not UTF-8"))
}

fn stream_events(hub: Arc<Hub>, wanted: Wanted) -> Response<Body> {
    let (pages, receiver) = tokio::sync::mpsc::channel(WAITING_PAGES);
    tokio::task::spawn_local(stream::send(hub, wanted, pages));
    let frames =
        tokio_stream::StreamExt::map(ReceiverStream::new(receiver), |page| Ok(Frame::data(page)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let kind = hyper::header::HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn refusal(error: &Error) -> Response<Body> {
    let status = if error.is_full() {
        StatusCode::TOO_MANY_REQUESTS
    } else {
        match error.exit() {
            Exit::Usage => StatusCode::BAD_REQUEST,
            Exit::NotStarted => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    };
    let line = to_line(&Refusal::from(error)).unwrap_or_default();
    let mut response = respond_line(status, line);
    if error.is_full() {
        let pause = hyper::header::HeaderValue::from_static(FULL_PAUSE);
        response.headers_mut().insert(RETRY_AFTER, pause);
    }
    response
}

fn respond_json(status: StatusCode, body: &impl Serialize) -> Result<Response<Body>> {
    to_line(body).map(|line| respond_line(status, line))
}

fn respond_line(status: StatusCode, line: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(line + "\n")).boxed_unsync());
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
