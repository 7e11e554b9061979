//! The lines that Claude Code reads and writes, as far as they are used.
//!
//! New message types, states and fields appear with every release, so nothing
//! here is closed: what is not known is [`Message::Other`].

use std::collections::HashMap;
use std::fmt;

use drawbridge_shared::json;
use drawbridge_shared::protocol::Usage;
use serde::Deserialize;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::host::message::UserMessage;

/// Name of our hook that runs before the conversation is compacted.
pub(super) const PRE_COMPACT: &str = "pre_compact";
/// Seconds that Claude Code waits for the hook. Without a limit it would wait
/// for good.
pub(super) const PRE_COMPACT_TIMEOUT: u64 = 20;

/// One line from Claude Code.
#[derive(Debug)]
pub(super) enum Message {
    Init(Init),
    State(SessionState),
    Compacting,
    Retry(Retry),
    Assistant(Assistant),
    ToolResults(Vec<Block>),
    Result(Box<TurnResult>),
    Lifecycle(Lifecycle),
    Request(Request),
    Other,
}

/// Start of a turn; repeated at every turn.
#[derive(Debug, Deserialize)]
pub(super) struct Init {
    pub(super) session_id: String,
    #[serde(default)]
    pub(super) claude_code_version: Option<String>,
    #[serde(default)]
    pub(super) mcp_servers: Vec<McpServer>,
}

#[derive(Debug, Deserialize)]
pub(super) struct McpServer {
    pub(super) name: String,
    pub(super) status: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct SessionState {
    pub(super) state: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Retry {
    #[serde(default)]
    pub(super) attempt: u32,
    #[serde(default)]
    pub(super) error: Option<String>,
    #[serde(default)]
    pub(super) error_status: Option<u16>,
}

/// A part of a reply: one line for each block of content.
#[derive(Debug, Deserialize)]
pub(super) struct Assistant {
    pub(super) message: AssistantMessage,
    /// Set when a subagent speaks, not the agent.
    #[serde(default)]
    pub(super) parent_tool_use_id: Option<String>,
    /// Set when this is the text of an API error, not of the model.
    #[serde(default)]
    pub(super) error: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AssistantMessage {
    #[serde(default)]
    pub(super) model: Option<String>,
    #[serde(default, deserialize_with = "blocks")]
    pub(super) content: Vec<Block>,
}

#[derive(Debug, Deserialize)]
struct UserLine {
    message: UserLineMessage,
}

#[derive(Debug, Deserialize)]
struct UserLineMessage {
    #[serde(default, deserialize_with = "blocks")]
    content: Vec<Block>,
}

/// One block of content. Large contents, such as a tool's output, are skipped.
#[derive(Debug, Deserialize)]
pub(super) struct Block {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) tool_use_id: Option<String>,
    #[serde(default)]
    pub(super) input: Option<ToolInput>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ToolInput {
    /// The Bash tool's own limit, in milliseconds.
    #[serde(default)]
    pub(super) timeout: Option<Value>,
}

/// End of a turn. `subtype` "success" does not mean success: `is_error` does.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TurnResult {
    pub(super) subtype: String,
    pub(super) is_error: bool,
    pub(super) result: Option<String>,
    pub(super) errors: Vec<String>,
    pub(super) api_error_status: Option<u16>,
    pub(super) terminal_reason: Option<String>,
    pub(super) startup_failure_reason: Option<String>,
    pub(super) num_turns: Option<u32>,
    /// The sum over the process, and with a resumed conversation over all of it.
    pub(super) total_cost_usd: Option<f64>,
    /// The turn's share of it, by model; not in older versions.
    pub(super) model_usage_since_last_result: Option<HashMap<String, ModelUsage>>,
    pub(super) usage: Option<TurnUsage>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ModelUsage {
    #[serde(rename = "costUSD")]
    pub(super) cost_usd: f64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TurnUsage {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: u64,
    cache_creation_input_tokens: u64,
}

impl From<TurnUsage> for Usage {
    fn from(usage: TurnUsage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cache_read_tokens: usage.cache_read_input_tokens,
            cache_write_tokens: usage.cache_creation_input_tokens,
        }
    }
}

/// The state of a message of ours.
#[derive(Debug, Deserialize)]
pub(super) struct Lifecycle {
    pub(super) command_uuid: Uuid,
    pub(super) state: String,
}

/// Something Claude Code wants to know from us.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) request_id: String,
    pub(super) request: RequestBody,
}

#[derive(Debug, Deserialize)]
pub(super) struct RequestBody {
    pub(super) subtype: String,
    #[serde(default)]
    pub(super) callback_id: Option<String>,
    #[serde(default)]
    pub(super) input: Value,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    subtype: Option<String>,
    #[serde(default)]
    status: Option<Value>,
}

/// Reads a line.
///
/// # Errors
/// It is not JSON, or a known message has lost a field we need.
pub(super) fn parse(line: &[u8]) -> serde_json::Result<Message> {
    let head: Head = json::from_slice_lossy(line)?;
    let subtype = head.subtype.as_deref().unwrap_or_default();
    Ok(match (head.kind.as_str(), subtype) {
        ("system", "init") => Message::Init(json::from_slice_lossy(line)?),
        ("system", "session_state_changed") => Message::State(json::from_slice_lossy(line)?),
        ("system", "status") if head.status == Some("compacting".into()) => Message::Compacting,
        ("system", "api_retry") => Message::Retry(json::from_slice_lossy(line)?),
        ("assistant", _) => Message::Assistant(json::from_slice_lossy(line)?),
        ("user", _) => {
            Message::ToolResults(json::from_slice_lossy::<UserLine>(line)?.message.content)
        }
        ("result", _) => Message::Result(Box::new(json::from_slice_lossy(line)?)),
        ("command_lifecycle", _) => Message::Lifecycle(json::from_slice_lossy(line)?),
        ("control_request", _) => Message::Request(json::from_slice_lossy(line)?),
        _ => Message::Other,
    })
}

/// Content is a list of blocks or a plain text; the text is not needed here.
fn blocks<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Block>, D::Error> {
    struct Blocks;

    impl<'de> Visitor<'de> for Blocks {
        type Value = Vec<Block>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("blocks of content or a text")
        }

        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut blocks = Vec::new();
            while let Some(block) = list.next_element()? {
                blocks.push(block);
            }
            Ok(blocks)
        }
    }

    deserializer.deserialize_any(Blocks)
}

/// The first line to Claude Code. It must come before any message.
pub(super) fn initialize(append_system_prompt: Option<&str>) -> Value {
    let mut request = json!({
        "subtype": "initialize",
        "hooks": {
            "PreCompact": [{ "hookCallbackIds": [PRE_COMPACT], "timeout": PRE_COMPACT_TIMEOUT }],
        },
    });
    if let Some(text) = append_system_prompt {
        request["appendSystemPrompt"] = text.into();
    }
    control_request(&request)
}

/// A request to Claude Code.
pub(super) fn control_request(request: &Value) -> Value {
    json!({ "type": "control_request", "request_id": Uuid::new_v4(), "request": request })
}

/// A message from a chat. `client_composed` keeps its `@path` and `/command`
/// plain text.
pub(super) fn user_message(message: &UserMessage) -> Value {
    json!({
        "type": "user",
        "message": { "role": "user", "content": message.text },
        "parent_tool_use_id": null,
        "session_id": "",
        "uuid": message.id.0,
        "client_composed": true,
    })
}

/// Claude Code's own command to summarise the conversation. Only here are slash
/// commands of any effect.
pub(super) fn compact(instructions: Option<&str>) -> Value {
    // On one line, so that it stays one command.
    let text = instructions
        .unwrap_or_default()
        .replace(char::is_control, " ");
    json!({
        "type": "user",
        "message": { "role": "user", "content": format!("/compact {text}").trim_end() },
        "parent_tool_use_id": null,
        "session_id": "",
    })
}

/// An answer to a request.
pub(super) fn answer(request_id: &str, response: &Value) -> Value {
    json!({
        "type": "control_response",
        "response": { "subtype": "success", "request_id": request_id, "response": response },
    })
}

/// A refusal. A request that is not answered at all would block Claude Code.
pub(super) fn refusal(request_id: &str, error: &str) -> Value {
    json!({
        "type": "control_response",
        "response": { "subtype": "error", "request_id": request_id, "error": error },
    })
}
