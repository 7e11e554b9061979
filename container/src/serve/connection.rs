//! A client's connection to `serve`.

use bytes::Bytes;
use drawbridge_io::http;
use drawbridge_io::lines::{Line, LineReader};
use drawbridge_shared::exit::Exit;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::io::AsyncRead;
use tokio::net::UnixStream;

use super::SOCKET;
use super::answer::Refusal;
use super::command::Command;
use super::stream::Wanted;
use super::token::Token;
use crate::error::{Context, Error, Result};
use crate::state::State;

/// A connection to the `serve` of this state folder.
pub(crate) struct Client {
    connection: http::Client,
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
        let connection = http::Client::new(stream)
            .await
            .context(|| Error::infrastructure("serve does not answer"))?;
        Ok(Some(Self { connection, token }))
    }

    /// Sends one command and waits for its answer, whose type goes with the command.
    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, command: &Command) -> Result<T> {
        let body = serde_json::to_vec(command)
            .context(|| Error::usage("the command cannot be written"))?;
        let request = Request::post("/v1/commands");
        let response = self.send(request, body.into()).await?;
        let status = response.status();
        let line = Lines::new(response.into_body()).next().await?;
        let line = line.unwrap_or_default();
        let unreadable = || Error::infrastructure("serve gave an answer that cannot be read");
        if status == StatusCode::OK {
            return serde_json::from_slice(&line).context(unreadable);
        }
        let refusal = serde_json::from_slice(&line).context(unreadable)?;
        Err(error_of(refusal))
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
        let refusal = serde_json::from_slice(&line).unwrap_or_else(|_| Refusal {
            error: "serve refused".to_owned(),
            hint: None,
            code: None,
        });
        Err(error_of(refusal))
    }

    async fn send(
        &mut self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Response<http::Body>> {
        let failed = || Error::infrastructure("serve does not answer");
        let request = request
            .header(HOST, "drawbridge")
            .header(AUTHORIZATION, self.token.header())
            .body(Full::new(body))
            .context(failed)?;
        self.connection.send(request).await.context(failed)
    }
}

/// The error that `serve` reported.
fn error_of(refusal: Refusal) -> Error {
    let exit = refusal.code.map_or(Exit::NotStarted, Exit::Child);
    let error = Error::new(exit, refusal.error);
    match refusal.hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Longest line of an answer, in bytes.
const MAX_LINE: usize = 64 * 1024 * 1024;

/// The lines of a body, as they come.
pub(crate) struct Lines(LineReader<Box<dyn AsyncRead + Send + Unpin>>);

impl Lines {
    fn new(body: http::Body) -> Self {
        Self(LineReader::new(Box::new(body.into_reader()), MAX_LINE))
    }

    /// The next line without its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        match self.0.next().await {
            Ok(Some(Line::Whole(line))) => Ok(Some(line)),
            Ok(Some(Line::TooLong { .. })) => {
                Err(Error::infrastructure("serve sent a line without an end"))
            }
            Ok(None) => Ok(None),
            // The connection is cut when serve ends.
            Err(error) => {
                tracing::debug!("the answer was cut: {error}");
                Ok(None)
            }
        }
    }
}
