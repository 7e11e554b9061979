//! Puts one reply of the Messages API together from its event stream. No IO.

use std::collections::BTreeMap;

use drawbridge_shared::json::from_slice_lossy;
use drawbridge_shared::protocol::Usage;
use serde_json::{Map, Value, json};

/// Largest reply, in bytes of its event stream.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// A whole reply.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reply {
    /// Content blocks, as the API wants them back.
    pub(super) content: Vec<Value>,
    pub(super) stop_reason: Option<String>,
    pub(super) usage: Usage,
    /// Calls whose input is not JSON, because the reply was cut.
    broken_calls: Vec<String>,
}

/// A tool the model wants to use.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ToolCall {
    pub(super) id: String,
    pub(super) name: String,
    /// `None` when it did not arrive whole.
    pub(super) input: Option<Value>,
}

/// Why an event stream did not become a reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplyError {
    /// An `error` event in the stream.
    #[error("{message}")]
    Api { kind: String, message: String },
    /// The stream ended in the middle of the reply.
    #[error("the stream ended before the reply did")]
    Cut,
    /// An event that is not JSON or lacks what it must have.
    #[error("the stream holds an event that cannot be read: {0}")]
    Malformed(String),
    /// More than [`MAX_BYTES`].
    #[error("the reply is larger than {MAX_BYTES} bytes")]
    TooLarge,
}

/// Reads an event stream in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct ReplyReader {
    bytes: usize,
    line: Vec<u8>,
    data: Vec<u8>,
    blocks: BTreeMap<u64, Block>,
    reply: Reply,
    is_complete: bool,
}

#[derive(Debug)]
struct Block {
    fields: Map<String, Value>,
    input: String,
}

impl Reply {
    /// The text blocks as one text; `None` without any.
    pub(super) fn text(&self) -> Option<String> {
        let is_text = |block: &&Value| block["type"] == "text";
        let texts: Vec<_> = self.content.iter().filter(is_text).collect();
        let texts: Vec<_> = texts.iter().filter_map(|b| b["text"].as_str()).collect();
        let joined = texts.join("\n");
        (!joined.is_empty()).then_some(joined)
    }

    /// The tools the model wants to use, in order.
    pub(super) fn tool_calls(&self) -> Vec<ToolCall> {
        let text = |block: &Value, key: &str| block[key].as_str().unwrap_or_default().to_owned();
        let calls = self.content.iter().filter(|b| b["type"] == "tool_use");
        calls
            .map(|block| {
                let id = text(block, "id");
                ToolCall {
                    input: (!self.broken_calls.contains(&id)).then(|| block["input"].clone()),
                    name: text(block, "name"),
                    id,
                }
            })
            .collect()
    }

    /// Whether the model only paused a long turn.
    pub(super) fn wants_to_go_on(&self) -> bool {
        self.stop_reason.as_deref() == Some("pause_turn")
    }
}

impl ReplyReader {
    /// Takes the next piece of the stream; true once the reply is whole.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<bool, ReplyError> {
        self.bytes += piece.len();
        if self.bytes > MAX_BYTES {
            return Err(ReplyError::TooLarge);
        }
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.take_line(line.trim_ascii_end())?;
            }
        }
        Ok(self.is_complete)
    }

    /// The reply, if the stream held all of it.
    pub(super) fn finish(self) -> Result<Reply, ReplyError> {
        if self.is_complete {
            Ok(self.reply)
        } else {
            Err(ReplyError::Cut)
        }
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), ReplyError> {
        if let Some(data) = line.strip_prefix(b"data:") {
            self.data.extend_from_slice(data);
        } else if line.is_empty() && !self.data.is_empty() {
            let data = std::mem::take(&mut self.data);
            let event: Value = from_slice_lossy(data.trim_ascii())
                .map_err(|error| ReplyError::Malformed(error.to_string()))?;
            self.take_event(&event)?;
        }
        Ok(())
    }

    fn take_event(&mut self, event: &Value) -> Result<(), ReplyError> {
        let index = event["index"].as_u64().unwrap_or_default();
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => self.count(&event["message"]["usage"]),
            "content_block_start" => {
                let Some(fields) = event["content_block"].as_object().cloned() else {
                    return Err(ReplyError::Malformed("a block without content".to_owned()));
                };
                let input = String::new();
                self.blocks.insert(index, Block { fields, input });
            }
            "content_block_delta" => {
                let Some(block) = self.blocks.get_mut(&index) else {
                    return Err(ReplyError::Malformed("a delta without a block".to_owned()));
                };
                block.add(&event["delta"]);
            }
            "message_delta" => {
                self.count(&event["usage"]);
                if let Some(reason) = event["delta"]["stop_reason"].as_str() {
                    self.reply.stop_reason = Some(reason.to_owned());
                }
            }
            "message_stop" => self.complete(),
            "error" => {
                let text = |key: &str| event["error"][key].as_str().unwrap_or_default().to_owned();
                return Err(ReplyError::Api {
                    kind: text("type"),
                    message: text("message"),
                });
            }
            // `ping`, `content_block_stop`, and what is added in the future.
            _ => {}
        }
        Ok(())
    }

    /// Takes over token counts; later ones replace earlier ones.
    fn count(&mut self, usage: &Value) {
        let total = &mut self.reply.usage;
        for (key, field) in [
            ("input_tokens", &mut total.input_tokens),
            ("output_tokens", &mut total.output_tokens),
            ("cache_read_input_tokens", &mut total.cache_read_tokens),
            ("cache_creation_input_tokens", &mut total.cache_write_tokens),
        ] {
            if let Some(tokens) = usage[key].as_u64() {
                *field = tokens;
            }
        }
    }

    fn complete(&mut self) {
        for block in std::mem::take(&mut self.blocks).into_values() {
            let (block, is_broken) = block.finish();
            if is_broken && let Some(id) = block["id"].as_str() {
                self.reply.broken_calls.push(id.to_owned());
            }
            // The API refuses an empty text block when it is sent back.
            if block["type"] != "text" || block["text"] != "" {
                self.reply.content.push(block);
            }
        }
        self.is_complete = true;
    }
}

impl Block {
    fn add(&mut self, delta: &Value) {
        match delta["type"].as_str().unwrap_or_default() {
            "input_json_delta" => self.input += delta["partial_json"].as_str().unwrap_or_default(),
            "text_delta" => self.extend("text", &delta["text"]),
            "thinking_delta" => self.extend("thinking", &delta["thinking"]),
            "signature_delta" => self.extend("signature", &delta["signature"]),
            _ => {}
        }
    }

    fn extend(&mut self, key: &str, more: &Value) {
        let mut text = self
            .fields
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        text += more.as_str().unwrap_or_default();
        self.fields.insert(key.to_owned(), Value::String(text));
    }

    /// The block as the API wants it back, and whether its input was cut.
    fn finish(mut self) -> (Value, bool) {
        let mut is_broken = false;
        if self
            .fields
            .get("type")
            .is_some_and(|kind| kind == "tool_use")
            && !self.input.is_empty()
        {
            let input = from_slice_lossy::<Map<_, _>>(self.input.as_bytes());
            is_broken = input.is_err();
            let input = input.map_or_else(|_| json!({}), Value::Object);
            self.fields.insert("input".to_owned(), input);
        }
        (Value::Object(self.fields), is_broken)
    }
}

#[cfg(test)]
mod tests;
