//! Anthropic's Messages API, streaming and plain.

use std::io;

use serde_json::{Value, json};

use super::{Answer, Content, Turn, content, next_id, stream_pieces};
use crate::exchange::Exchange;

pub(super) fn error(kind: &str, message: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind, "message": message } })
}

pub(super) fn answer(
    turn: &Turn<'_>,
    answer: Answer,
    exchange: &mut Exchange<'_>,
) -> io::Result<()> {
    let is_stream = turn.body["stream"] == true;
    let (content, input_tokens) = content(answer);
    let stop = match content {
        Content::Call { .. } => "tool_use",
        Content::Pieces(_) => "end_turn",
    };
    let message = json!({
        "id": next_id("msg"), "type": "message", "role": "assistant",
        "model": turn.body["model"], "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": { "input_tokens": input_tokens, "output_tokens": 1 },
    });
    if !is_stream {
        return plain(message, content, stop, exchange);
    }
    exchange.begin(200, &[("content-type", "text/event-stream")])?;
    exchange.event(&json!({ "type": "message_start", "message": message }))?;
    match content {
        Content::Pieces(pieces) => {
            let block = json!({ "type": "text", "text": "" });
            begin_block(&block, exchange)?;
            stream_pieces(&pieces, exchange, |exchange, text| {
                exchange.chunk(format!(
                    "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
                     \"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
                ))
            })?;
        }
        Content::Call { name, input } => {
            begin_block(&call(&name, &json!({})), exchange)?;
            exchange.event(&json!({
                "type": "content_block_delta", "index": 0,
                "delta": { "type": "input_json_delta", "partial_json": input.to_string() },
            }))?;
        }
    }
    exchange.event(&json!({ "type": "content_block_stop", "index": 0 }))?;
    exchange.event(&json!({
        "type": "message_delta",
        "delta": { "stop_reason": stop, "stop_sequence": null },
        "usage": { "output_tokens": 7 },
    }))?;
    exchange.event(&json!({ "type": "message_stop" }))?;
    exchange.end()
}

fn plain(
    mut message: Value,
    content: Content,
    stop: &str,
    exchange: &mut Exchange<'_>,
) -> io::Result<()> {
    let block = match content {
        Content::Call { name, input } => call(&name, &input),
        Content::Pieces(pieces) => {
            let said = stream_pieces(&pieces, exchange, |_, _| Ok(()))?;
            let said: Value = serde_json::from_str(&format!("\"{said}\"")).unwrap_or_default();
            json!({ "type": "text", "text": said })
        }
    };
    message["content"] = json!([block]);
    message["stop_reason"] = stop.into();
    exchange.respond_json(200, &message)
}

fn call(name: &str, input: &Value) -> Value {
    json!({ "type": "tool_use", "id": next_id("toolu"), "name": name, "input": input })
}

fn begin_block(block: &Value, exchange: &mut Exchange<'_>) -> io::Result<()> {
    exchange.event(&json!({ "type": "content_block_start", "index": 0, "content_block": block }))
}
