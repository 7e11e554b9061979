//! A scripted model behind the Messages API, streaming and plain.

use std::io;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::exchange::Exchange;
use crate::request::Request;
use crate::upstream::Upstream;
use crate::wait::Gate;

/// What the model is asked: the conversation so far.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The request that carries it.
    pub request: &'a Request,
    body: Value,
}

impl<'a> Turn<'a> {
    fn new(request: &'a Request) -> Self {
        Self {
            request,
            body: request.json(),
        }
    }

    /// All that came after the model's last answer: user texts and tool results.
    #[must_use]
    pub fn news(&self) -> String {
        let messages = self.body["messages"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let answered = messages
            .iter()
            .rposition(|message| message["role"] == "assistant");
        let mut texts = Vec::new();
        for message in &messages[answered.map_or(0, |at| at + 1)..] {
            collect_texts(&message["content"], &mut texts);
        }
        texts.join("\n")
    }

    /// The whole conversation as text.
    #[must_use]
    pub fn history(&self) -> String {
        let mut texts = Vec::new();
        for message in self.body["messages"].as_array().into_iter().flatten() {
            collect_texts(&message["content"], &mut texts);
        }
        texts.join("\n")
    }

    /// Whether the newest message carries a tool's result.
    #[must_use]
    pub fn has_tool_result(&self) -> bool {
        let content = self.body["messages"].as_array().and_then(|all| {
            all.iter()
                .rfind(|message| message["role"] == "user")
                .map(|last| &last["content"])
        });
        content
            .and_then(Value::as_array)
            .is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "tool_result"))
    }
}

fn collect_texts(content: &Value, texts: &mut Vec<String>) {
    match content {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(blocks) => {
            for block in blocks {
                collect_texts(&block["text"], texts);
                collect_texts(&block["content"], texts);
            }
        }
        _ => {}
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
        name: &'static str,
        /// Its input.
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
}

impl Answer {
    /// A shell command through the agent's `Bash` tool.
    #[must_use]
    pub fn bash(tool: &'static str, command: &str) -> Self {
        Self::Tool {
            name: tool,
            input: json!({ "command": command, "description": "run a test command" }),
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
    /// Starts a Messages API whose answers a rule gives.
    #[must_use]
    pub fn start(rule: impl Fn(&Turn<'_>) -> Answer + Send + Sync + 'static) -> Upstream {
        Upstream::start(Self::script(rule))
    }

    /// The script of such an API, for an upstream of another kind.
    pub fn script(
        rule: impl Fn(&Turn<'_>) -> Answer + Send + Sync + 'static,
    ) -> impl Fn(&Request, &mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static {
        let rule = Arc::new(rule);
        move |request, exchange| match (request.method.as_str(), request.path()) {
            ("POST", "/v1/messages") => {
                let turn = Turn::new(request);
                answer(&turn, rule(&turn), exchange)
            }
            ("POST", "/v1/messages/count_tokens") => {
                exchange.respond_json(200, &json!({ "input_tokens": 10 }))
            }
            _ => exchange.respond_json(404, &error("not_found_error", "no such path")),
        }
    }
}

fn error(kind: &str, message: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind, "message": message } })
}

fn answer(turn: &Turn<'_>, answer: Answer, exchange: &mut Exchange<'_>) -> io::Result<()> {
    let is_stream = turn.body["stream"] == true;
    let (block, stop) = match &answer {
        Answer::Error { status, kind } => {
            // A retry would only slow the tests down: the client gives up at once.
            let headers = [
                ("content-type", "application/json"),
                ("x-should-retry", "false"),
            ];
            let body = error(kind, "scripted failure").to_string();
            return exchange.respond(*status, &headers, body);
        }
        Answer::Reset => return exchange.reset(),
        Answer::Silence => {
            exchange.wait_until_client_leaves();
            return Ok(());
        }
        Answer::Tool { name, input } => (
            json!({ "type": "tool_use", "id": next_id("toolu"), "name": name, "input": input }),
            "tool_use",
        ),
        Answer::Text(text) => (json!({ "type": "text", "text": text }), "end_turn"),
        Answer::Stream(_) => (json!({ "type": "text", "text": "" }), "end_turn"),
    };
    if !is_stream {
        let mut message = message(turn);
        message["content"] = json!([block]);
        message["stop_reason"] = stop.into();
        return exchange.respond_json(200, &message);
    }
    exchange.begin(200, &[("content-type", "text/event-stream")])?;
    exchange.event(&json!({ "type": "message_start", "message": message(turn) }))?;
    match answer {
        Answer::Stream(pieces) => stream_text(&pieces, exchange)?,
        Answer::Text(text) => stream_text(&[Piece::Text(text)], exchange)?,
        _ => stream_tool(&block, exchange)?,
    }
    exchange.event(&json!({
        "type": "message_delta",
        "delta": { "stop_reason": stop, "stop_sequence": null },
        "usage": { "output_tokens": 7 },
    }))?;
    exchange.event(&json!({ "type": "message_stop" }))?;
    exchange.end()
}

fn message(turn: &Turn<'_>) -> Value {
    json!({
        "id": next_id("msg"), "type": "message", "role": "assistant",
        "model": turn.body["model"], "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": { "input_tokens": 11, "output_tokens": 1 },
    })
}

fn stream_text(pieces: &[Piece], exchange: &mut Exchange<'_>) -> io::Result<()> {
    exchange.event(&json!({
        "type": "content_block_start", "index": 0,
        "content_block": { "type": "text", "text": "" },
    }))?;
    for piece in pieces {
        match piece {
            Piece::Text(text) => exchange.event(&json!({
                "type": "content_block_delta", "index": 0,
                "delta": { "type": "text_delta", "text": text },
            }))?,
            Piece::Escaped(text) => exchange.chunk(format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
                 \"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
            ))?,
            Piece::Wait(gate) => gate.pass(),
            Piece::Drop => {
                exchange.raw("40\r\nevent: content_block_delta\ndata: {\"type\":\"conte")?;
                exchange.reset()?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
    }
    exchange.event(&json!({ "type": "content_block_stop", "index": 0 }))
}

fn stream_tool(block: &Value, exchange: &mut Exchange<'_>) -> io::Result<()> {
    let mut start = block.clone();
    start["input"] = json!({});
    exchange
        .event(&json!({ "type": "content_block_start", "index": 0, "content_block": start }))?;
    exchange.event(&json!({
        "type": "content_block_delta", "index": 0,
        "delta": { "type": "input_json_delta", "partial_json": block["input"].to_string() },
    }))?;
    exchange.event(&json!({ "type": "content_block_stop", "index": 0 }))
}

fn next_id(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}_{:08}", NEXT.fetch_add(1, Ordering::Relaxed))
}
