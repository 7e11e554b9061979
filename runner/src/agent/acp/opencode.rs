//! opencode's own server, beside its protocol. It tells what the Agent Client
//! Protocol has no place for: the status of a failed model call, that a call
//! broke off, and that one is tried again. Its events are recorded from opencode
//! 1.18.33.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use drawbridge_shared::json::from_slice_lossy;
use drawbridge_shared::protocol::ErrorKind;
use http_body_util::{BodyDataStream, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_util::io::StreamReader;
use tokio_util::task::AbortOnDropHandle;

use crate::agent::Failure;
use crate::agent::rpc::kind_of_status;
use crate::child::{Line, LineReader};

/// How long the server may take to begin its events; it listens before the
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

/// What became of a model call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ModelCall {
    /// It failed for good, and the conversation's turn with it.
    Failed(Failure),
    /// It made the agent use a tool.
    UsedTool,
    /// Its answer, of this id, broke off; it is tried again at once.
    BrokeOff(String),
    /// It failed and is tried again after a pause.
    Retry {
        attempt: u64,
        words: String,
        pause: Duration,
    },
}

/// What becomes of the model calls, as long as the server runs.
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
            if let Err(error) = events.read(&session, &sender).await {
                tracing::debug!("opencode's events have ended: {error}");
            }
        });
        Ok(ModelCalls {
            receiver,
            _reader: AbortOnDropHandle::new(reader),
        })
    }

    async fn events(&self) -> Result<EventStream, WatchError> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // The same error reaches whoever reads the response.
            let _ = connection.await;
        }));
        let login = BASE64.encode(format!("{USER}:{}", self.password));
        // Those of all folders: it knows a folder by its exact spelling.
        let request = Request::get("/global/event")
            .header(HOST, format!("{}:{}", Ipv4Addr::LOCALHOST, self.port))
            .header(AUTHORIZATION, format!("Basic {login}"))
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(WatchError::Refused(response.status()));
        }
        Ok(EventStream {
            body: response.into_body(),
            _connection: connection,
        })
    }
}

impl ModelCalls {
    /// What becomes of the next call; `None` when the server has ended.
    pub(super) async fn next(&mut self) -> Option<ModelCall> {
        self.receiver.recv().await
    }
}

struct EventStream {
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
}

impl EventStream {
    /// Passes on what is about model calls, until either end is gone.
    async fn read(self, session: &str, calls: &mpsc::Sender<ModelCall>) -> io::Result<()> {
        let body = BodyDataStream::new(self.body).map(|piece| piece.map_err(io::Error::other));
        let mut lines = LineReader::new(StreamReader::new(body), MAX_EVENT_BYTES);
        while let Some(line) = lines.next().await? {
            let Line::Whole(line) = line else { continue };
            if let Some(call) = parse(&line, session)
                && calls.send(call).await.is_err()
            {
                break;
            }
        }
        Ok(())
    }
}

/// Reads one line of the event stream; each event is one `data:` line.
fn parse(line: &[u8], session: &str) -> Option<ModelCall> {
    let event: Value = from_slice_lossy(line.strip_prefix(b"data:")?).ok()?;
    let (kind, properties) = (&event["payload"]["type"], &event["payload"]["properties"]);
    let is_own = properties["sessionID"] == session;
    match kind.as_str()? {
        // A subagent's failure is told to the agent, and does not end the turn.
        "session.error" if is_own => Some(ModelCall::Failed(failure(&properties["error"]))),
        "session.status" if properties["status"]["type"] == "retry" => {
            Some(retry(&properties["status"]))
        }
        // A call that breaks off in the middle of a tool's input is only pending.
        "message.part.updated" if properties["part"]["state"]["status"] == "running" => {
            Some(ModelCall::UsedTool)
        }
        "message.updated" => broken_answer(&properties["info"]).map(ModelCall::BrokeOff),
        _ => None,
    }
}

fn failure(error: &Value) -> Failure {
    let data = &error["data"];
    let words = data["message"].as_str().unwrap_or("no reason given");
    let kind = match (error["name"].as_str(), data["statusCode"].as_u64()) {
        (Some("ProviderAuthError"), _) => ErrorKind::Auth,
        (Some("ContextOverflowError"), _) => ErrorKind::Context,
        (_, Some(status)) => kind_of_status(status),
        // Such as a connection that cannot be made.
        (_, None) if data["isRetryable"] == true => ErrorKind::Overload,
        _ => ErrorKind::Api,
    };
    Failure::new(kind, words)
}

fn retry(status: &Value) -> ModelCall {
    let until = Duration::from_millis(status["next"].as_u64().unwrap_or_default());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    ModelCall::Retry {
        attempt: status["attempt"].as_u64().unwrap_or_default(),
        words: status["message"].as_str().unwrap_or_default().to_owned(),
        pause: until.saturating_sub(now.unwrap_or_default()),
    }
}

/// The id of an answer that broke off: the model neither said why it stopped nor
/// was anything counted. opencode takes it for the middle of a turn and goes on.
fn broken_answer(message: &Value) -> Option<String> {
    let is_broken = message["role"] == "assistant"
        && message["finish"] == "unknown"
        && message["tokens"]["output"] == 0;
    let id = message["id"].as_str().filter(|_| is_broken)?;
    Some(id.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(kind: &str, properties: &Value) -> Option<ModelCall> {
        let event = json!({"directory": "/w", "payload": {"type": kind, "properties": properties}});
        parse(format!("data: {event}").as_bytes(), "ses_1")
    }

    fn kind_of(error: &Value) -> Option<ErrorKind> {
        let properties = json!({"sessionID": "ses_1", "error": error});
        match parsed("session.error", &properties)? {
            ModelCall::Failed(failure) => Some(failure.kind),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failures_are_told_apart() {
        let api = |data: Value| kind_of(&json!({"name": "APIError", "data": data}));
        let status = |status: u64| api(json!({"message": "no", "statusCode": status}));
        assert_eq!(status(401), Some(ErrorKind::Auth));
        assert_eq!(status(429), Some(ErrorKind::RateLimit));
        assert_eq!(status(529), Some(ErrorKind::Overload));
        assert_eq!(api(json!({"isRetryable": true})), Some(ErrorKind::Overload));
        assert_eq!(api(json!({"isRetryable": false})), Some(ErrorKind::Api));
        let named = |name: &str| kind_of(&json!({"name": name, "data": {}}));
        assert_eq!(named("ProviderAuthError"), Some(ErrorKind::Auth));
        assert_eq!(named("ContextOverflowError"), Some(ErrorKind::Context));
        assert_eq!(named("UnknownError"), Some(ErrorKind::Api));
    }

    #[test]
    fn only_broken_answers_count() {
        let answer = |finish: &str, output: u64| {
            let info = json!({
                "id": "msg_1", "role": "assistant", "finish": finish, "tokens": {"output": output},
            });
            parsed(
                "message.updated",
                &json!({"sessionID": "ses_2", "info": info}),
            )
        };
        assert_eq!(
            answer("unknown", 0),
            Some(ModelCall::BrokeOff("msg_1".to_owned()))
        );
        assert_eq!(
            answer("unknown", 5),
            None,
            "a provider that gives no reason"
        );
        assert_eq!(answer("stop", 0), None);
    }

    #[test]
    fn only_a_running_tool_counts() {
        let tool = |status: &str| {
            let part = json!({"type": "tool", "tool": "bash", "state": {"status": status}});
            parsed("message.part.updated", &json!({"part": part}))
        };
        assert_eq!(tool("running"), Some(ModelCall::UsedTool));
        assert_eq!(tool("pending"), None);
    }

    #[test]
    fn noise_is_passed_over() {
        let of_a_subagent = json!({"sessionID": "ses_2", "error": {"name": "APIError"}});
        assert_eq!(parsed("session.error", &of_a_subagent), None);
        let busy = json!({"sessionID": "ses_1", "status": {"type": "busy"}});
        assert_eq!(parsed("session.status", &busy), None);
        for line in ["", ": ping", "data:", "data: {", "data: []", "event: x"] {
            assert_eq!(parse(line.as_bytes(), "ses_1"), None, "{line}");
        }
    }
}
