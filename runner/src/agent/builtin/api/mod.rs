//! Calls of the Messages API through the credential proxy, in plain HTTP.

mod call_error;

use std::time::Duration;

use bytes::Bytes;
use drawbridge_io::http::{self, Body};
use drawbridge_shared::env;
use drawbridge_shared::protocol::{AuthMode, ErrorKind};
use http_body_util::Full;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Events;
use super::reply::{Reply, ReplyReader};
use super::session::{Message, Role};
use super::shell;
use crate::agent::types::{Activity, AgentEvent, AgentSpec, Failure, ModelAccess};
use call_error::CallError;

/// Model to ask for when neither the run nor `ANTHROPIC_MODEL` names one.
const DEFAULT_MODEL: &str = "claude-opus-5-5";
/// Most tokens of one reply.
const MAX_TOKENS: u32 = 16_000;
/// Most attempts for one call.
const MAX_ATTEMPTS: u32 = 5;
/// Bytes read of an error's body.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// Deadlines of the steps of a call.
#[derive(Clone, Copy, Debug)]
struct Deadlines {
    /// To connect to the proxy.
    connect: Duration,
    /// From the request to the head of the answer; a busy provider queues.
    head: Duration,
    /// Between two pieces of the answer; the API sends a ping every few seconds.
    idle: Duration,
    /// Before the first repetition; each later one waits twice as long.
    back_off: Duration,
}

impl Deadlines {
    const USUAL: Self = Self {
        connect: Duration::from_secs(10),
        head: Duration::from_secs(300),
        idle: Duration::from_secs(120),
        back_off: Duration::from_millis(500),
    };
}

/// The way to the model.
pub(super) struct Client {
    /// Host and port.
    authority: String,
    /// Path of the base URL, without a slash at its end.
    base_path: String,
    credential: (HeaderName, HeaderValue),
    model: String,
    system: String,
    deadlines: Deadlines,
}

impl Client {
    /// Takes the way to the model from the run, or from the environment.
    ///
    /// # Errors
    /// The base URL or the key is missing or not usable.
    pub(super) fn new(spec: &AgentSpec) -> Result<Self, Failure> {
        let access = match &spec.model_access {
            Some(access) => access.clone(),
            None => access_from(|name| std::env::var(name).ok())?,
        };
        let model = spec.options.model.clone();
        let model = model.or_else(|| std::env::var("ANTHROPIC_MODEL").ok());
        let (authority, base_path) = parse_base_url(&access.base_url)?;
        Ok(Self {
            authority,
            base_path,
            credential: credential(&access)?,
            model: model.unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
            system: system_prompt(spec),
            deadlines: Deadlines::USUAL,
        })
    }

    /// The request's body for a conversation.
    pub(super) fn request(&self, messages: &[Message]) -> Bytes {
        let body = json!({
            "model": self.model,
            "max_tokens": MAX_TOKENS,
            "stream": true,
            "system": [cached(json!({"type": "text", "text": self.system}))],
            "tools": [shell::definition()],
            "messages": wire_messages(messages),
        });
        Bytes::from(body.to_string())
    }

    /// Calls the model, again and again while that may help.
    ///
    /// # Errors
    /// The last attempt's, described for the host.
    pub(super) async fn call(&self, body: Bytes, events: &Events) -> Result<Reply, Failure> {
        for attempt in 1.. {
            let error = match self.attempt(body.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let back_off = self.deadlines.back_off * 2_u32.saturating_pow(attempt - 1);
            let pause = error.pause_before_retry(back_off);
            let Some(pause) = pause.filter(|_| attempt < MAX_ATTEMPTS) else {
                return Err(error.into_failure(attempt));
            };
            let activity = Activity::Retry(format!("{error}; trying again in {pause:?}"));
            events.send(AgentEvent::Activity(activity)).await;
            sleep(pause).await;
        }
        Err(Failure::crash("no attempt was made"))
    }

    async fn attempt(&self, body: Bytes) -> Result<Reply, CallError> {
        let response = self.send(body).await?;
        if response.status() == StatusCode::OK {
            self.read_reply(response.into_body()).await
        } else {
            Err(self.read_error(response).await)
        }
    }

    /// Sends the request on a connection of its own.
    async fn send(&self, body: Bytes) -> Result<Response<Body>, CallError> {
        let connect = timeout(self.deadlines.connect, TcpStream::connect(&self.authority)).await;
        let stream = connect
            .map_err(|_| stalled("accepted no connection", self.deadlines.connect))?
            .map_err(CallError::Connect)?;
        stream.set_nodelay(true).map_err(CallError::Connect)?;
        let mut client = http::Client::new(stream).await?;
        let response = timeout(self.deadlines.head, client.send(self.head(body)?))
            .await
            .map_err(|_| stalled("did not answer", self.deadlines.head))??;
        Ok(response)
    }

    fn head(&self, body: Bytes) -> Result<Request<Full<Bytes>>, CallError> {
        let (name, value) = &self.credential;
        Request::builder()
            .method(Method::POST)
            .uri(format!("{}/v1/messages", self.base_path))
            .header(HOST, &self.authority)
            .header(ACCEPT, "text/event-stream")
            .header(CONTENT_TYPE, "application/json")
            .header(
                USER_AGENT,
                concat!("drawbridge-builtin/", env!("CARGO_PKG_VERSION")),
            )
            .header("anthropic-version", "2023-06-01")
            .header(name, value)
            .body(Full::new(body))
            .map_err(CallError::Request)
    }

    async fn read_reply(&self, mut body: Body) -> Result<Reply, CallError> {
        let mut reader = ReplyReader::default();
        while let Some(piece) = self.next_piece(&mut body).await? {
            if reader.feed(&piece)? {
                break;
            }
        }
        Ok(reader.finish()?)
    }

    async fn read_error(&self, response: Response<Body>) -> CallError {
        let (head, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        while bytes.len() < MAX_ERROR_BYTES {
            // What has arrived explains more than the failure to read the rest.
            let Ok(Some(piece)) = self.next_piece(&mut body).await else {
                break;
            };
            bytes.extend_from_slice(&piece);
        }
        CallError::from_answer(head.status, &head.headers, &bytes)
    }

    async fn next_piece(&self, body: &mut Body) -> Result<Option<Bytes>, CallError> {
        let piece = timeout(self.deadlines.idle, body.next())
            .await
            .map_err(|_| stalled("stopped in mid-answer", self.deadlines.idle))?;
        Ok(piece?)
    }
}

fn system_prompt(spec: &AgentSpec) -> String {
    let mut prompt = format!(
        "You are a coding agent in a sandbox without a user at the screen. Your working \
         directory is {}. Use the tool to look at files, change them and run programs; then \
         answer in a few plain sentences.",
        spec.workspace.display()
    );
    if let Some(more) = &spec.append_system_prompt {
        prompt.push_str("\n\n");
        prompt.push_str(more);
    }
    prompt
}

fn stalled(what: &'static str, limit: Duration) -> CallError {
    CallError::Stalled { what, limit }
}

/// The way to the model that a host without run options describes.
fn access_from(variable: impl Fn(&str) -> Option<String>) -> Result<ModelAccess, Failure> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let missing = |what: &str| Failure::new(ErrorKind::StartUp, format!("{what} is not set"));
    let base_url = set(env::ANTHROPIC_BASE_URL).ok_or_else(|| missing(env::ANTHROPIC_BASE_URL))?;
    let bearer = || set(env::CLAUDE_CODE_OAUTH_TOKEN).or_else(|| set(env::ANTHROPIC_AUTH_TOKEN));
    let (token, auth_mode) = match set(env::ANTHROPIC_API_KEY) {
        Some(key) => (key, AuthMode::ApiKey),
        None => (
            bearer().ok_or_else(|| missing("ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN"))?,
            AuthMode::Oauth,
        ),
    };
    Ok(ModelAccess {
        base_url,
        token,
        auth_mode,
    })
}

fn parse_base_url(text: &str) -> Result<(String, String), Failure> {
    let refuse = |why: &str| {
        let message = format!("base URL {text:?} cannot be used by the builtin agent: {why}");
        Failure::new(ErrorKind::StartUp, message)
    };
    let url: Uri = text.parse().map_err(|_| refuse("it is not a URL"))?;
    if url.scheme_str() != Some("http") {
        return Err(refuse(
            "it must be the credential proxy's, which is plain http",
        ));
    }
    let host = url.host().ok_or_else(|| refuse("it has no host"))?;
    let authority = format!("{host}:{}", url.port_u16().unwrap_or(80));
    Ok((authority, url.path().trim_end_matches('/').to_owned()))
}

fn credential(access: &ModelAccess) -> Result<(HeaderName, HeaderValue), Failure> {
    let (name, text) = match access.auth_mode {
        AuthMode::ApiKey => (HeaderName::from_static("x-api-key"), access.token.clone()),
        AuthMode::Oauth => (AUTHORIZATION, format!("Bearer {}", access.token)),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        Failure::new(
            ErrorKind::StartUp,
            "the session token is not usable in a header",
        )
    })?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// The conversation as the API wants it: speakers take turns, and the last block
/// is marked so that the next call finds all before it in the cache.
fn wire_messages(messages: &[Message]) -> Vec<Value> {
    let mut joined: Vec<(Role, Vec<Value>)> = Vec::new();
    for message in messages
        .iter()
        .filter(|message| !message.content.is_empty())
    {
        match joined.last_mut() {
            Some((role, content)) if *role == message.role => {
                content.extend(message.content.iter().cloned());
            }
            _ => joined.push((message.role, message.content.clone())),
        }
    }
    if let Some(block) = joined
        .last_mut()
        .and_then(|(_, content)| content.last_mut())
    {
        *block = cached(block.take());
    }
    joined
        .into_iter()
        .map(|(role, content)| json!({"role": role, "content": content}))
        .collect()
}

fn cached(mut block: Value) -> Value {
    block["cache_control"] = json!({"type": "ephemeral"});
    block
}

/// A header's value as text, if it is there and is text.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests;
