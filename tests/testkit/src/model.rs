//! A scripted model behind the APIs of three vendors. One rule answers them
//! all, so that a test says once what every agent must do.

mod gemini;
mod messages;
mod responses;
mod turn;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::exchange::Exchange;
use crate::request::Request;
use crate::upstream::Upstream;
use crate::wait::Gate;

pub use turn::Turn;

/// A vendor's API, told by the path of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// Anthropic's Messages.
    Messages,
    /// OpenAI's Responses.
    Responses,
    /// Google's `generateContent`.
    Gemini,
}

impl Dialect {
    fn of(request: &Request) -> Option<Self> {
        match (request.method.as_str(), request.path()) {
            ("POST", "/v1/messages") => Some(Self::Messages),
            ("POST", "/v1/responses" | "/backend-api/codex/responses") => Some(Self::Responses),
            ("POST", path) if path.ends_with(":streamGenerateContent") => Some(Self::Gemini),
            _ => None,
        }
    }

    fn error(self, status: u16, kind: &str) -> Value {
        let message = "scripted failure";
        match self {
            Self::Messages => messages::error(kind, message),
            Self::Responses => json!({ "error": { "message": message, "type": kind } }),
            Self::Gemini => json!({
                "error": { "code": status, "message": message, "status": kind.to_uppercase() },
            }),
        }
    }
}

/// What the model does.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Says a text.
    Text(String),
    /// Streams pieces; slow, gated or broken streams are made of them.
    Stream(Vec<Piece>),
    /// Calls a tool.
    Tool {
        /// The tool's name.
        name: String,
        /// Its input. A text is the input of a tool that takes no JSON.
        input: Value,
    },
    /// Fails with a status, in the API's error shape.
    Error {
        /// The HTTP status.
        status: u16,
        /// The error's `type`.
        kind: &'static str,
    },
    /// Resets the connection without a word.
    Reset,
    /// Never says a word; waits until the client gives up.
    Silence,
    /// A text, after which the conversation is said to be this long.
    Filling {
        /// The text.
        text: String,
        /// Tokens that the request is said to have had.
        input_tokens: u64,
    },
}

impl Answer {
    /// A shell command through the agent's `Bash` tool.
    #[must_use]
    pub fn bash(tool: &str, command: &str) -> Self {
        Self::tool(
            tool,
            json!({ "command": command, "description": "run a test command" }),
        )
    }

    /// A call of a tool.
    #[must_use]
    pub fn tool(name: &str, input: impl Into<Value>) -> Self {
        Self::Tool {
            name: name.to_owned(),
            input: input.into(),
        }
    }
}

/// A piece of a streamed answer.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Some text.
    Text(String),
    /// Text in the form it has between the quotes of a JSON string, which may
    /// be one that no text has, such as an escaped lone surrogate.
    Escaped(String),
    /// Wait until the test opens the gate.
    Wait(Gate),
    /// Half an event, then a reset.
    Drop,
}

/// Starts models.
#[derive(Debug)]
pub struct Model;

impl Model {
    /// Starts an API whose answers a rule gives.
    #[must_use]
    pub fn start(rule: impl Fn(&Turn<'_>) -> Answer + Send + Sync + 'static) -> Upstream {
        Upstream::start(Self::script(rule))
    }

    /// The script of such an API, for an upstream of another kind.
    pub fn script(
        rule: impl Fn(&Turn<'_>) -> Answer + Send + Sync + 'static,
    ) -> impl Fn(&Request, &mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static {
        let rule = Arc::new(rule);
        move |request, exchange| {
            if let Some(dialect) = Dialect::of(request) {
                let turn = Turn::new(dialect, request);
                return answer(&turn, rule(&turn), exchange);
            }
            match (request.method.as_str(), request.path()) {
                ("POST", "/v1/messages/count_tokens") => {
                    exchange.respond_json(200, &json!({ "input_tokens": 10 }))
                }
                _ => {
                    exchange.respond_json(404, &messages::error("not_found_error", "no such path"))
                }
            }
        }
    }
}

fn answer(turn: &Turn<'_>, answer: Answer, exchange: &mut Exchange<'_>) -> io::Result<()> {
    match &answer {
        Answer::Error { status, kind } => {
            // A retry would only slow the tests down: the client gives up at once.
            let headers = [
                ("content-type", "application/json"),
                ("x-should-retry", "false"),
            ];
            let body = turn.dialect.error(*status, kind).to_string();
            return exchange.respond(*status, &headers, body);
        }
        Answer::Reset => return exchange.reset(),
        Answer::Silence => {
            exchange.wait_until_client_leaves();
            return Ok(());
        }
        _ => {}
    }
    match turn.dialect {
        Dialect::Messages => messages::answer(turn, answer, exchange),
        Dialect::Responses => responses::answer(answer, exchange),
        Dialect::Gemini => gemini::answer(answer, exchange),
    }
}

/// What is streamed for an answer that is one: a call, or pieces of text.
enum Content {
    Call { name: String, input: Value },
    Pieces(Vec<Piece>),
}

/// The content of an answer, and the tokens its request is said to have had.
fn content(answer: Answer) -> (Content, u64) {
    let pieces = |text| Content::Pieces(vec![Piece::Text(text)]);
    let content = match answer {
        Answer::Tool { name, input } => Content::Call { name, input },
        Answer::Text(text) => pieces(text),
        Answer::Filling { text, input_tokens } => return (pieces(text), input_tokens),
        Answer::Stream(pieces) => Content::Pieces(pieces),
        Answer::Error { .. } | Answer::Reset | Answer::Silence => Content::Pieces(Vec::new()),
    };
    (content, 11)
}

/// Streams pieces. `delta` writes the event of one text, which it is given as
/// it stands between the quotes of a JSON string. Returns all of them together.
fn stream_pieces<'a>(
    pieces: &[Piece],
    exchange: &mut Exchange<'a>,
    delta: impl Fn(&mut Exchange<'a>, &str) -> io::Result<()>,
) -> io::Result<String> {
    let mut said = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                let quoted = Value::from(text.as_str()).to_string();
                let text = &quoted[1..quoted.len() - 1];
                delta(exchange, text)?;
                said += text;
            }
            Piece::Escaped(text) => {
                delta(exchange, text)?;
                said += text;
            }
            Piece::Wait(gate) => gate.pass(),
            Piece::Drop => {
                exchange.raw("40\r\nevent: half\ndata: {\"type\":\"conte")?;
                exchange.reset()?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
    }
    Ok(said)
}

fn next_id(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}_{:08}", NEXT.fetch_add(1, Ordering::Relaxed))
}
