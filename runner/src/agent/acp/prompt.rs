//! One prompt and what comes of it. No IO.

use drawbridge_shared::protocol::{ErrorKind, Usage};
use serde_json::Value;
use tokio::time::Instant;

use crate::agent::rpc::{RpcError, kind_of_status};
use crate::agent::{Activity, Failure, Outcome, TurnEnd, UserMessage};

/// A running prompt.
#[derive(Debug)]
pub(super) struct Prompt {
    /// Id of its request.
    pub(super) request: u64,
    messages: Vec<UserMessage>,
    /// What the agent has said since its last tool.
    text: String,
    /// What it said before.
    earlier: Option<String>,
    /// When the agent was first told to stop.
    cancelled_at: Option<Instant>,
}

impl Prompt {
    pub(super) fn new(request: u64, messages: Vec<UserMessage>) -> Self {
        Self {
            request,
            messages,
            text: String::new(),
            earlier: None,
            cancelled_at: None,
        }
    }

    /// Notes that the agent was told to stop.
    pub(super) fn cancel(&mut self) {
        self.cancelled_at.get_or_insert_with(Instant::now);
    }

    pub(super) const fn cancelled_at(&self) -> Option<Instant> {
        self.cancelled_at
    }

    /// Its messages, when the agent does not end it.
    pub(super) fn into_messages(self) -> Vec<UserMessage> {
        self.messages
    }

    /// Takes a `session/update`: what the supervisor is to be told.
    pub(super) fn update(&mut self, update: &Value) -> Vec<Activity> {
        let text = |key: &str| update[key].as_str().unwrap_or_default().to_owned();
        match update["sessionUpdate"].as_str().unwrap_or_default() {
            "agent_message_chunk" => {
                self.text += update["content"]["text"].as_str().unwrap_or_default();
                vec![Activity::Other]
            }
            "tool_call" => {
                let mut activities = Vec::new();
                if !self.text.is_empty() {
                    let said = std::mem::take(&mut self.text);
                    self.earlier = Some(said.clone());
                    activities.push(Activity::Text(said));
                }
                activities.push(Activity::ToolStart {
                    id: text("toolCallId"),
                    name: text("title"),
                    timeout: None,
                });
                activities
            }
            "tool_call_update"
                if matches!(update["status"].as_str(), Some("completed" | "failed")) =>
            {
                vec![Activity::ToolEnd {
                    id: text("toolCallId"),
                }]
            }
            _ => vec![Activity::Other],
        }
    }

    /// The end of the turn, the messages that are in the conversation now, and
    /// a warning.
    pub(super) fn end(
        self,
        result: Result<Value, RpcError>,
    ) -> (TurnEnd, Vec<UserMessage>, Option<String>) {
        let (outcome, usage, warning) = match result {
            // opencode fails when it is stopped before it has really begun.
            Err(_) if self.cancelled_at.is_some() => (Outcome::Interrupted, None, None),
            Err(error) => (Outcome::Failed(failure(&error)), None, None),
            Ok(answer) => {
                let said = Some(self.text)
                    .filter(|text| !text.is_empty())
                    .or(self.earlier);
                let usage = usage(&answer);
                // opencode calls it an ordinary end when it was stopped while it
                // tried a model call again; what it says then is from calls that
                // broke off.
                let is_broken_off =
                    said.is_none() || usage.is_some_and(|usage| usage.output_tokens == 0);
                if self.cancelled_at.is_some() && is_broken_off {
                    (Outcome::Interrupted, usage, None)
                } else {
                    let (outcome, warning) = outcome(answer["stopReason"].as_str(), said);
                    (outcome, usage, warning)
                }
            }
        };
        let mut end = TurnEnd::from(outcome);
        end.usage = usage;
        (end, self.messages, warning)
    }
}

fn outcome(stop_reason: Option<&str>, said: Option<String>) -> (Outcome, Option<String>) {
    let failed = |kind, text: &str| (Outcome::Failed(Failure::new(kind, text)), None);
    match stop_reason {
        Some("cancelled") => (Outcome::Interrupted, None),
        Some("refusal") => failed(ErrorKind::Api, "the model refused to answer"),
        Some("max_turn_requests") => failed(
            ErrorKind::Budget,
            "stopped after the most model calls of one turn",
        ),
        Some("max_tokens") => {
            let warning = "the answer was cut at the output limit".to_owned();
            (Outcome::Answer(said), Some(warning))
        }
        _ => (Outcome::Answer(said), None),
    }
}

/// Tokens of the turn, for agents that report them: in the protocol's draft
/// field, or in Gemini CLI's own.
fn usage(answer: &Value) -> Option<Usage> {
    let own = &answer["_meta"]["quota"]["token_count"];
    let (counts, names) = if own.is_object() {
        (own, ["input_tokens", "output_tokens", "", ""])
    } else {
        let names = [
            "inputTokens",
            "outputTokens",
            "cachedReadTokens",
            "cachedWriteTokens",
        ];
        (&answer["usage"], names)
    };
    let [input, output, read, write] = names.map(|key| counts[key].as_u64().unwrap_or_default());
    counts.is_object().then_some(Usage {
        input_tokens: input,
        output_tokens: output,
        cache_read_tokens: read,
        cache_write_tokens: write,
    })
}

/// The protocol has no field for the kind of an error. Agents put the HTTP
/// status into the code, the data, or only into their words.
fn failure(error: &RpcError) -> Failure {
    let in_data = ["status", "statusCode", "code"]
        .iter()
        .find_map(|key| error.data[key].as_u64());
    let in_code = u64::try_from(error.code).ok();
    let words = error.in_words();
    let status = in_data.or(in_code).or_else(|| status_in(&words));
    let kind = status.map_or(ErrorKind::Api, kind_of_status);
    Failure::new(kind, words)
}

/// The first number in a text that can be the status of an HTTP error.
fn status_in(words: &str) -> Option<u64> {
    words
        .split(|character: char| !character.is_ascii_digit())
        .filter(|number| number.len() == 3)
        .find_map(|number| {
            number
                .parse()
                .ok()
                .filter(|status| (400..600).contains(status))
        })
}
