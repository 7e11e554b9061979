//! opencode's own server, next to its protocol. It reports what the Agent
//! Client Protocol has no place for: the status of a failed model call, that a
//! call broke off, and that one is tried again. Its events are recorded from
//! opencode 1.18.33.

mod model_call;

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use drawbridge_io::http::{Body, Client};
use drawbridge_io::lines::{Line, LineReader};
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

pub(super) use model_call::ModelCall;

/// Longest time for the server to begin its events; it listens before the
/// protocol's first answer.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// Longest event that is read. Those of model calls are a few thousand bytes;
/// only those of tools' output are longer.
const MAX_EVENT_BYTES: usize = 256 * 1024;
/// Whom the server takes requests from.
const USER: &str = "opencode";
/// Events that wait for the driver.
const EVENTS: usize = 64;

/// Where the server is to listen, and who may talk to it.
#[derive(Clone)]
pub(super) struct Server {
    port: u16,
    password: String,
}

/// Events about model calls, as long as the server runs.
pub(super) struct ModelCalls {
    receiver: mpsc::Receiver<ModelCall>,
    _reader: AbortOnDropHandle<()>,
}

/// Why the server's events cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error("it cannot be reached: {0}")]
    Connect(#[from] io::Error),
    #[error("it broke the connection: {0}")]
    Http(#[from] hyper::Error),
    #[error("the request cannot be made: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("it answered {0}")]
    Refused(StatusCode),
    #[error("it did not answer within {START_DEADLINE:?}")]
    Late,
}

impl Server {
    /// Chooses a port that is free now, and a password. Without a password the
    /// agent would obey every process that reaches the port.
    pub(super) fn choose() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(Self {
            port: listener.local_addr()?.port(),
            password: uuid::Uuid::new_v4().to_string(),
        })
    }

    /// Arguments that make opencode serve there.
    pub(super) fn args(&self) -> [OsString; 4] {
        let address = Ipv4Addr::LOCALHOST.to_string();
        let port = self.port.to_string();
        [
            "--hostname".into(),
            address.into(),
            "--port".into(),
            port.into(),
        ]
    }

    /// Variables that make it ask for the password.
    pub(super) fn env(&self) -> [(OsString, OsString); 2] {
        [
            ("OPENCODE_SERVER_USERNAME".into(), USER.into()),
            (
                "OPENCODE_SERVER_PASSWORD".into(),
                self.password.clone().into(),
            ),
        ]
    }

    /// Begins to read the events of a conversation.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub(super) async fn watch(&self, session: &str) -> Result<ModelCalls, WatchError> {
        let events = timeout(START_DEADLINE, self.events())
            .await
            .map_err(|_| WatchError::Late)??;
        let (sender, receiver) = mpsc::channel(EVENTS);
        let session = session.to_owned();
        let reader = tokio::spawn(async move {
            if let Err(error) = read(events, &session, &sender).await {
                tracing::debug!("opencode's events have ended: {error}");
            }
        });
        Ok(ModelCalls {
            receiver,
            _reader: AbortOnDropHandle::new(reader),
        })
    }

    async fn events(&self) -> Result<Body, WatchError> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        let login = BASE64.encode(format!("{USER}:{}", self.password));
        // Those of all folders: it knows a folder by its exact spelling.
        let request = Request::get("/global/event")
            .header(HOST, format!("{}:{}", Ipv4Addr::LOCALHOST, self.port))
            .header(AUTHORIZATION, format!("Basic {login}"))
            .body(Full::<Bytes>::default())?;
        let response = Client::new(stream).await?.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(WatchError::Refused(response.status()));
        }
        Ok(response.into_body())
    }
}

impl ModelCalls {
    /// The next event; `None` when the server has ended.
    pub(super) async fn next(&mut self) -> Option<ModelCall> {
        self.receiver.recv().await
    }
}

/// Passes on the events about model calls, until either end is gone.
async fn read(events: Body, session: &str, calls: &mpsc::Sender<ModelCall>) -> io::Result<()> {
    let mut lines = LineReader::new(events.into_reader(), MAX_EVENT_BYTES);
    while let Some(line) = lines.next().await? {
        let Line::Whole(line) = line else { continue };
        if let Some(call) = ModelCall::parse(&line, session)
            && calls.send(call).await.is_err()
        {
            break;
        }
    }
    Ok(())
}
