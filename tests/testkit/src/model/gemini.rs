//! Google's `streamGenerateContent`.

use std::io;

use serde_json::{Value, json};

use super::{Answer, Content, content, stream_pieces};
use crate::exchange::Exchange;

pub(super) fn answer(answer: Answer, exchange: &mut Exchange<'_>) -> io::Result<()> {
    let (content, input_tokens) = content(answer);
    exchange.begin(200, &[("content-type", "text/event-stream")])?;
    match content {
        Content::Pieces(pieces) => {
            stream_pieces(&pieces, exchange, |exchange, text| {
                exchange.chunk(format!(
                    "data: {{\"candidates\":[{{\"index\":0,\"content\":{{\"role\":\"model\",\
                     \"parts\":[{{\"text\":\"{text}\"}}]}}}}]}}\r\n\r\n"
                ))
            })?;
        }
        Content::Call { name, input } => {
            let call = json!([{ "functionCall": { "name": name, "args": input } }]);
            event(&candidate(&call), exchange)?;
        }
    }
    let mut last = candidate(&json!([{ "text": "" }]));
    last["candidates"][0]["finishReason"] = "STOP".into();
    last["usageMetadata"] = json!({
        "promptTokenCount": input_tokens, "candidatesTokenCount": 7,
        "totalTokenCount": input_tokens + 7,
    });
    event(&last, exchange)?;
    exchange.end()
}

fn candidate(parts: &Value) -> Value {
    json!({ "candidates": [{ "index": 0, "content": { "role": "model", "parts": parts } }] })
}

/// An event without a name.
fn event(data: &Value, exchange: &mut Exchange<'_>) -> io::Result<()> {
    exchange.chunk(format!("data: {data}\r\n\r\n"))
}
