//! A stand-in for the model API, inside this process and on loopback only.
//!
//! `demo` and the smoke test of `build-image` need an upstream that answers
//! without a key, an account or the internet. It speaks as much of the streaming
//! Messages API as an agent needs, says what a script tells it to, and
//! remembers what it was sent.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use drawbridge_proxy::config::ProxyConfig;
use drawbridge_settings::Environment;
use drawbridge_shared::env::{ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::{Context, Error, Result};
use crate::state::State;

/// Claude Code's requests start at 50 KB; a conversation of ours stays small.
const MAX_REQUEST_BYTES: usize = 8 << 20;
/// Requests of one demonstration are counted in tens.
const MAX_REMEMBERED: usize = 1000;

/// The model's next answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Text, which ends the turn.
    Text(String),
    /// A call of the agent's `bash` tool.
    Bash(String),
}

/// Decides on a reply by the request's body.
pub(crate) type Script = fn(&Value) -> Reply;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Method and path.
    pub(crate) line: String,
    /// Every credential it carried: header name and value.
    pub(crate) credentials: Vec<(String, String)>,
    /// Its body, when it is JSON.
    pub(crate) body: Value,
}

/// A running stand-in; dropping it ends it.
#[derive(Debug)]
pub(crate) struct FakeApi {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    _stop: DropGuard,
}

impl FakeApi {
    /// Starts to listen on a free port of the loopback address.
    pub(crate) async fn start(script: Script) -> Result<Self> {
        let failed = || Error::infrastructure("cannot open a port on 127.0.0.1");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context(failed)?;
        let address = listener.local_addr().context(failed)?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let server = Server {
            script,
            received: Arc::clone(&received),
        };
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(server.accept(listener)),
        );
        Ok(Self {
            address,
            received,
            _stop: stop.drop_guard(),
        })
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A proxy that leads here with `key`, whatever the caller's environment
    /// and `.env` hold.
    pub(crate) fn proxy_config(&self, key: &str, state: &State) -> Result<ProxyConfig> {
        let url = self.url();
        let variables = [(ANTHROPIC_BASE_URL, url.as_str()), (ANTHROPIC_API_KEY, key)];
        ProxyConfig::resolve(None, &Environment::new(variables, state.root()))
            .context(|| Error::infrastructure("cannot set up the proxy for the stand-in"))
    }

    /// All requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        lock(&self.received).clone()
    }
}

fn lock(received: &Mutex<Vec<Received>>) -> std::sync::MutexGuard<'_, Vec<Received>> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
struct Server {
    script: Script,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    async fn accept(self, listener: TcpListener) {
        // Connections end with this set, which ends with the stand-in.
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(self.clone().serve(stream));
            while connections.try_join_next().is_some() {}
        }
    }

    async fn serve(self, stream: TcpStream) {
        let service = hyper::service::service_fn(|request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = connection {
            tracing::debug!(%error, "the stand-in's connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        #[expect(clippy::disallowed_methods, reason = "the body is limited")]
        let body = Limited::new(body, MAX_REQUEST_BYTES).collect().await;
        let body = body.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let reply = (head.method == Method::POST && head.uri.path() == "/v1/messages")
            .then(|| (self.script)(&body));
        let streams = body["stream"] == true;
        let mut received = lock(&self.received);
        if received.len() < MAX_REMEMBERED {
            received.push(Received {
                line: format!("{} {}", head.method, head.uri.path()),
                credentials: credentials(&head.headers),
                body,
            });
        }
        match reply {
            Some(reply) if streams => respond(StatusCode::OK, "text/event-stream", events(&reply)),
            Some(reply) => respond(
                StatusCode::OK,
                "application/json",
                whole(&reply).to_string(),
            ),
            None => respond(StatusCode::NOT_FOUND, "application/json", not_found()),
        }
    }
}

fn credentials(headers: &HeaderMap) -> Vec<(String, String)> {
    [
        "x-api-key",
        AUTHORIZATION.as_str(),
        "x-goog-api-key",
        "cookie",
    ]
    .iter()
    .flat_map(|name| headers.get_all(*name).iter().map(|value| (*name, value)))
    .map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.to_owned(), value)
    })
    .collect()
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn not_found() -> String {
    json!({"type": "error", "error": {"type": "not_found_error", "message": "only POST /v1/messages"}})
        .to_string()
}

const MODEL: &str = "stand-in";

fn whole(reply: &Reply) -> Value {
    let content = match reply {
        Reply::Text(text) => json!({"type": "text", "text": text}),
        Reply::Bash(command) => {
            json!({"type": "tool_use", "id": TOOL_ID, "name": tool_name(), "input": {"command": command}})
        }
    };
    json!({
        "id": "msg_stand_in", "type": "message", "role": "assistant", "model": MODEL,
        "content": [content], "stop_reason": stop_reason(reply), "stop_sequence": null,
        "usage": {"input_tokens": 10, "output_tokens": 10},
    })
}

const TOOL_ID: &str = "toolu_stand_in";

const fn tool_name() -> &'static str {
    "bash"
}

const fn stop_reason(reply: &Reply) -> &'static str {
    match reply {
        Reply::Text(_) => "end_turn",
        Reply::Bash(_) => "tool_use",
    }
}

/// The reply as an event stream, in the order of the Messages API.
fn events(reply: &Reply) -> String {
    let (block, deltas) = match reply {
        Reply::Text(text) => {
            let deltas = text
                .split_inclusive(' ')
                .map(|word| json!({"type": "text_delta", "text": word}))
                .collect();
            (json!({"type": "text", "text": ""}), deltas)
        }
        Reply::Bash(command) => {
            let input = json!({ "command": command }).to_string();
            let block =
                json!({"type": "tool_use", "id": TOOL_ID, "name": tool_name(), "input": {}});
            let delta = json!({"type": "input_json_delta", "partial_json": input});
            (block, vec![delta])
        }
    };
    let message = json!({
        "id": "msg_stand_in", "type": "message", "role": "assistant", "model": MODEL,
        "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 10, "output_tokens": 1},
    });
    let mut stream = String::new();
    let mut push = |event: Value| {
        let name = event["type"].as_str().unwrap_or_default();
        stream.push_str(&format!("event: {name}\ndata: {event}\n\n"));
    };
    push(json!({"type": "message_start", "message": message}));
    push(json!({"type": "content_block_start", "index": 0, "content_block": block}));
    for delta in deltas {
        push(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
    }
    push(json!({"type": "content_block_stop", "index": 0}));
    push(json!({
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason(reply), "stop_sequence": null},
        "usage": {"output_tokens": 10},
    }));
    push(json!({"type": "message_stop"}));
    stream
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn post(fake_api: &FakeApi, body: &str) -> String {
        let mut stream = TcpStream::connect(fake_api.address).await.unwrap();
        let head = format!(
            "POST /v1/messages?beta=true HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_streams_the_scripted_reply_and_remembers_the_request() {
        let fake_api = FakeApi::start(|body| match body["model"].as_str() {
            Some("tool") => Reply::Bash("env".into()),
            _ => Reply::Text("two words".into()),
        })
        .await
        .unwrap();
        let said = post(&fake_api, r#"{"stream":true}"#).await;
        assert!(said.contains("event: message_start"), "{said}");
        assert!(said.contains(r#""text":"two ""#), "{said}");
        let tool = post(&fake_api, r#"{"stream":true,"model":"tool"}"#).await;
        assert!(
            tool.contains(r#""partial_json":"{\"command\":\"env\"}""#),
            "{tool}"
        );
        let plain = post(&fake_api, "{}").await;
        assert!(plain.contains(r#""text":"two words""#), "{plain}");

        let received = fake_api.received();
        assert_eq!(received.len(), 3);
        assert_eq!(received[0].line, "POST /v1/messages");
        assert_eq!(received[0].credentials, [("x-api-key".into(), "k".into())]);
        assert_eq!(received[1].body["model"], "tool");
    }
}
