//! A caller's connection to `serve`.

use bytes::{Buf, Bytes, BytesMut};
use drawbridge_shared::exit::Exit;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::SOCKET;
use super::api::Command;
use super::stream::Wanted;
use super::token::Token;
use crate::error::{Context, Error, Result};
use crate::state::State;

/// A connection to the `serve` of this state folder.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    token: Token,
}

impl Client {
    /// Connects, or says that no `serve` runs.
    pub(crate) async fn connect() -> Result<Self> {
        let state = State::open()?;
        let found = Self::find(&state).await?;
        found.ok_or_else(|| {
            let root = state.root().display();
            Error::not_started(format!(
                "no `drawbridge serve` runs on the state folder {root}"
            ))
            .hint("start one: drawbridge serve")
        })
    }

    /// Connects, if a `serve` runs.
    pub(crate) async fn find(state: &State) -> Result<Option<Self>> {
        let folder = state.serve_folder();
        let Ok(stream) = UnixStream::connect(folder.join(SOCKET)).await else {
            return Ok(None);
        };
        let token = Token::read(&folder).context(|| {
            Error::not_started(format!("cannot read the token in {}", folder.display()))
        })?;
        let failed = || Error::infrastructure("serve does not answer");
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .context(failed)?;
        // It ends with the sender and the last body.
        tokio::spawn(connection);
        Ok(Some(Self { sender, token }))
    }

    /// Sends one command and waits for its answer.
    pub(crate) async fn ask(&mut self, command: &Command) -> Result<Value> {
        let body = serde_json::to_vec(command)
            .context(|| Error::usage("the command cannot be written"))?;
        let request = Request::post("/v1/commands");
        let response = self.send(request, body.into()).await?;
        let status = response.status();
        let mut body = Lines::new(response.into_body());
        let line = body.next().await?.unwrap_or_default();
        let answer: Value = serde_json::from_slice(&line)
            .context(|| Error::infrastructure("serve gave an answer that cannot be read"))?;
        match status {
            StatusCode::OK => Ok(answer),
            _ => Err(refused(&answer)),
        }
    }

    /// Begins to read events.
    pub(crate) async fn events(&mut self, wanted: Wanted) -> Result<Lines> {
        let request = Request::get(format!("/v1/events?{}", wanted.to_query()));
        let response = self.send(request, Bytes::new()).await?;
        let is_good = response.status() == StatusCode::OK;
        let mut lines = Lines::new(response.into_body());
        if is_good {
            return Ok(lines);
        }
        let line = lines.next().await?.unwrap_or_default();
        Err(refused(&serde_json::from_slice(&line).unwrap_or_default()))
    }

    async fn send(
        &mut self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let failed = || Error::infrastructure("serve does not answer");
        let request = request
            .header(HOST, "drawbridge")
            .header(AUTHORIZATION, self.token.header())
            .body(Full::new(body))
            .context(failed)?;
        self.sender.send_request(request).await.context(failed)
    }
}

/// The error that `serve` gave.
fn refused(answer: &Value) -> Error {
    let code = answer["code"]
        .as_u64()
        .and_then(|code| code.try_into().ok());
    let exit = code.map_or(Exit::NotStarted, Exit::Child);
    let text = answer["error"].as_str().unwrap_or("serve refused");
    let error = Error::new(exit, text);
    match answer["hint"].as_str() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Longest line of an answer, in bytes.
const MAX_LINE: usize = 64 * 1024 * 1024;

/// The lines of a body, as they come.
pub(crate) struct Lines {
    body: Incoming,
    rest: BytesMut,
}

impl Lines {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            rest: BytesMut::new(),
        }
    }

    /// The next line without its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut searched = 0;
        loop {
            let found = self.rest[searched..].iter().position(|byte| *byte == b'\n');
            if let Some(at) = found {
                let line = self.rest.split_to(searched + at);
                self.rest.advance(1);
                return Ok(Some(line.freeze()));
            }
            searched = self.rest.len();
            if searched > MAX_LINE {
                return Err(Error::infrastructure("serve sent a line without an end"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                // The connection is cut when serve ends.
                Some(Err(error)) => {
                    tracing::debug!("the answer was cut: {error}");
                    return Ok(None);
                }
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.rest.extend_from_slice(data);
                    }
                }
            }
        }
    }
}
