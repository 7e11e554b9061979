//! OpenAI's Responses API, streaming.

use std::io;

use serde_json::{Value, json};

use super::{Answer, Content, content, next_id, stream_pieces};
use crate::exchange::Exchange;

pub(super) fn answer(answer: Answer, exchange: &mut Exchange<'_>) -> io::Result<()> {
    let (content, input_tokens) = content(answer);
    let response = next_id("resp");
    exchange.begin(200, &[("content-type", "text/event-stream")])?;
    exchange.event(&json!({ "type": "response.created", "response": { "id": response } }))?;
    match content {
        Content::Pieces(pieces) => text(&pieces, exchange)?,
        Content::Call { name, input } => exchange.event(&json!({
            "type": "response.output_item.done", "output_index": 0, "item": call(&name, &input),
        }))?,
    }
    exchange.event(&json!({
        "type": "response.completed",
        "response": { "id": response, "usage": {
            "input_tokens": input_tokens, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": 7, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": input_tokens + 7,
        } },
    }))?;
    exchange.end()
}

fn call(name: &str, input: &Value) -> Value {
    let call = next_id("call");
    match input {
        Value::String(text) => json!({
            "type": "custom_tool_call", "id": next_id("ctc"), "call_id": call,
            "status": "completed", "name": name, "input": text,
        }),
        input => json!({
            "type": "function_call", "id": next_id("fc"), "call_id": call,
            "status": "completed", "name": name, "arguments": input.to_string(),
        }),
    }
}

fn text(pieces: &[super::Piece], exchange: &mut Exchange<'_>) -> io::Result<()> {
    let id = next_id("msg");
    exchange.event(&json!({
        "type": "response.output_item.added", "output_index": 0,
        "item": { "type": "message", "id": id, "role": "assistant", "content": [] },
    }))?;
    let said = stream_pieces(pieces, exchange, |exchange, text| {
        exchange.chunk(format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\
             \"item_id\":\"{id}\",\"output_index\":0,\"content_index\":0,\"delta\":\"{text}\"}}\n\n"
        ))
    })?;
    exchange.chunk(format!(
        "event: response.output_item.done\ndata: {{\"type\":\"response.output_item.done\",\
         \"output_index\":0,\"item\":{{\"type\":\"message\",\"id\":\"{id}\",\"role\":\"assistant\",\
         \"content\":[{{\"type\":\"output_text\",\"text\":\"{said}\",\"annotations\":[]}}]}}}}\n\n"
    ))
}
