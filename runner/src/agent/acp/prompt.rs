//! One prompt and what comes of it. No IO.

use std::time::Duration;

use drawbridge_shared::protocol::{ErrorKind, Usage};
use serde_json::Value;
use tokio::time::Instant;

use super::begin::AUTH_REQUIRED;
use super::opencode::ModelCall;
use crate::agent::rpc::{RpcError, kind_of_status};
use crate::agent::{Activity, Failure, Outcome, TurnEnd, UserMessage};

/// Answers that may break off one after another, for an agent that asks for each
/// again at once and without end.
const MAX_BROKEN: usize = 10;
/// Tries of one model call, for an agent that pauses before each and goes on
/// without end: with opencode's pauses about a minute.
const MAX_TRIES: u64 = 6;
/// Longest pause before another try; a provider that asks for more is reported
/// instead.
const MAX_PAUSE: Duration = Duration::from_secs(60);

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
    /// The message its last text belongs to, where the agent names it.
    message: Option<String>,
    /// Messages that broke off, one after another.
    broken: Vec<String>,
    /// Why the turn has failed, when the agent told it beside its protocol.
    cause: Option<Failure>,
    /// Why the agent was told to stop, when that was our choice.
    given_up: Option<Failure>,
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
            message: None,
            broken: Vec::new(),
            cause: None,
            given_up: None,
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

    /// Whether it is of no use to go on with it.
    pub(super) const fn is_given_up(&self) -> bool {
        self.given_up.is_some()
    }

    /// Whether it is known why it has failed.
    pub(super) const fn has_cause(&self) -> bool {
        self.cause.is_some()
    }

    /// Its end and its messages, when the agent does not end it.
    pub(super) fn abandon(self) -> (TurnEnd, Vec<UserMessage>) {
        let outcome = self.given_up.map_or(Outcome::Interrupted, Outcome::Failed);
        (TurnEnd::from(outcome), self.messages)
    }

    /// Takes what became of a model call: what the supervisor is to be told.
    pub(super) fn model_call(&mut self, call: ModelCall) -> Option<Activity> {
        match call {
            ModelCall::Failed(failure) => {
                self.cause = Some(failure);
                None
            }
            ModelCall::UsedTool => {
                self.broken.clear();
                None
            }
            ModelCall::BrokeOff(message) => {
                if self.broken.contains(&message) {
                    return None;
                }
                if self.message.as_ref() == Some(&message) {
                    self.text.clear();
                }
                self.broken.push(message);
                let tries = self.broken.len();
                if tries >= MAX_BROKEN {
                    let words = format!("the model's answer broke off {tries} times in a row");
                    self.give_up(Failure::new(ErrorKind::Overload, words));
                }
                Some(Activity::Retry("the model's answer broke off".to_owned()))
            }
            ModelCall::Retry {
                attempt,
                words,
                pause,
            } => {
                if pause > MAX_PAUSE || attempt >= MAX_TRIES {
                    let told = format!("{words} (after {attempt} tries of a model call)");
                    let mut failure = Failure::new(kind_of_retry(&words), told);
                    failure.retry_after = Some(pause);
                    self.give_up(failure);
                }
                Some(Activity::Retry(words))
            }
        }
    }

    fn give_up(&mut self, failure: Failure) {
        if self.cancelled_at.is_none() {
            self.given_up.get_or_insert(failure);
        }
    }

    /// Takes a `session/update`: what the supervisor is to be told.
    pub(super) fn update(&mut self, update: &Value) -> Vec<Activity> {
        let text = |key: &str| update[key].as_str().unwrap_or_default().to_owned();
        match update["sessionUpdate"].as_str().unwrap_or_default() {
            "agent_message_chunk" => self.chunk(
                update["messageId"].as_str(),
                update["content"]["text"].as_str().unwrap_or_default(),
            ),
            "tool_call" => {
                let mut activities: Vec<_> = self.end_message().into_iter().collect();
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

    /// Takes a piece of what the agent says. A message that broke off is said
    /// again in another one.
    fn chunk(&mut self, message: Option<&str>, text: &str) -> Vec<Activity> {
        let mut activities = vec![Activity::Other];
        if let Some(message) = message.filter(|id| self.message.as_deref() != Some(*id)) {
            activities.extend(self.end_message());
            self.message = Some(message.to_owned());
        }
        let is_broken = |id: &String| self.broken.contains(id);
        if !self.message.as_ref().is_some_and(is_broken) {
            self.text += text;
        }
        activities
    }

    fn end_message(&mut self) -> Option<Activity> {
        if self.text.is_empty() {
            return None;
        }
        let said = std::mem::take(&mut self.text);
        self.earlier = Some(said.clone());
        Some(Activity::Text(said))
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
            Err(error) => {
                let failure = self.cause.unwrap_or_else(|| failure(&error));
                (Outcome::Failed(failure), None, None)
            }
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
        let outcome = match (outcome, self.given_up) {
            (Outcome::Interrupted, Some(failure)) => Outcome::Failed(failure),
            (outcome, _) => outcome,
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
    let kind = match status {
        Some(status) => kind_of_status(status),
        None if error.code == AUTH_REQUIRED => ErrorKind::Auth,
        None => ErrorKind::Api,
    };
    Failure::new(kind, words)
}

/// A call that is tried again comes without its status.
fn kind_of_retry(words: &str) -> ErrorKind {
    let words = words.to_lowercase();
    let is_limit = ["rate limit", "rate_limit", "too many requests"]
        .iter()
        .any(|limit| words.contains(limit));
    if is_limit {
        ErrorKind::RateLimit
    } else {
        ErrorKind::Overload
    }
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
