//! One prompt and what comes of it. No IO.

use std::time::Duration;

use drawbridge_shared::protocol::{ErrorKind, Usage};
use serde_json::Value;
use tokio::time::Instant;

use super::answer_buffer::AnswerBuffer;
use super::begin::AUTH_REQUIRED;
use super::opencode::ModelCall;
use crate::agent::api_error::kind_of_status;
use crate::agent::rpc::RpcError;
use crate::agent::types::{Activity, Failure, Outcome, TurnEnd};
use crate::host::message::UserMessage;

/// Answers that may break off one after another: opencode asks for each again
/// at once, indefinitely.
const MAX_BROKEN: usize = 10;
/// Calls that may not fit in a row: opencode sums the conversation up after each
/// and goes on, also when that does not help.
const MAX_OVERFLOWS: u32 = 3;
/// Longest pause before another try; a provider that asks for more is reported
/// instead.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A running prompt.
#[derive(Debug)]
pub(super) struct Prompt {
    /// Id of its request.
    pub(super) request: u64,
    messages: Vec<UserMessage>,
    answer: AnswerBuffer,
    /// The message that the model answers with, where the agent reports it.
    answering: Option<String>,
    retry: Retry,
    /// Messages that broke off since the last tool.
    broken: Vec<String>,
    /// Calls that did not fit since the last tool.
    overflows: u32,
    /// Whether the answer was cut at the output limit.
    is_cut: bool,
    is_idle: bool,
    /// Whether the agent has shown that it works on it.
    is_acknowledged: bool,
    /// The cause of the failed turn, when the agent reported it outside its
    /// protocol.
    cause: Option<Failure>,
    /// The reason to stop the agent, when that was our choice.
    given_up: Option<Failure>,
    /// When the agent was first asked to stop.
    cancelled_at: Option<Instant>,
}

/// Whether a model call was tried again since the last tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    No,
    /// It will be, after a pause.
    Planned,
    Begun,
}

impl Prompt {
    pub(super) fn new(request: u64, messages: Vec<UserMessage>) -> Self {
        Self {
            request,
            messages,
            answer: AnswerBuffer::default(),
            answering: None,
            retry: Retry::No,
            broken: Vec::new(),
            overflows: 0,
            is_cut: false,
            is_idle: false,
            is_acknowledged: false,
            cause: None,
            given_up: None,
            cancelled_at: None,
        }
    }

    /// Remembers that the agent was asked to stop.
    pub(super) fn cancel(&mut self) {
        self.cancelled_at.get_or_insert_with(Instant::now);
    }

    pub(super) const fn cancelled_at(&self) -> Option<Instant> {
        self.cancelled_at
    }

    /// Whether the turn makes no progress and is given up.
    pub(super) const fn is_given_up(&self) -> bool {
        self.given_up.is_some()
    }

    /// Whether the agent has reported, outside its protocol, that the turn has
    /// ended.
    pub(super) const fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// Whether the agent has shown that it works on it. If not, its messages may
    /// never have been read.
    pub(super) const fn is_acknowledged(&self) -> bool {
        self.is_acknowledged
    }

    /// Its end and its messages, when the agent does not end it.
    pub(super) fn abandon(self) -> (TurnEnd, Vec<UserMessage>) {
        let outcome = self.given_up.map_or(Outcome::Interrupted, Outcome::Failed);
        (TurnEnd::from(outcome), self.messages)
    }

    /// Handles an event about a model call; returns the activity for the
    /// supervisor.
    pub(super) fn model_call(&mut self, call: ModelCall) -> Option<Activity> {
        // An end may be that of the turn before.
        self.is_acknowledged |= call != ModelCall::Idle;
        match call {
            ModelCall::Busy => {
                self.go_on();
                None
            }
            ModelCall::Idle => {
                self.is_idle = true;
                None
            }
            ModelCall::Answering(message) => {
                self.answering = Some(message);
                None
            }
            ModelCall::Summary(message) => {
                let is_new = self.answer.exclude(message);
                is_new.then_some(Activity::Compaction)
            }
            ModelCall::BrokeOff(message) => self.break_off(message),
            ModelCall::Cut => {
                self.is_cut = true;
                None
            }
            ModelCall::UsedTool => {
                self.broken.clear();
                self.overflows = 0;
                self.retry = Retry::No;
                None
            }
            ModelCall::Retry {
                is_own,
                reason,
                pause,
            } => {
                if is_own {
                    self.retry = Retry::Planned;
                }
                if pause > MAX_PAUSE {
                    self.give_up(too_long_a_pause(&reason, pause));
                }
                Some(Activity::Retry(reason))
            }
            ModelCall::Failed(failure) => {
                self.fail(failure);
                None
            }
        }
    }

    /// The conversation goes on, so what happened before was not its end.
    fn go_on(&mut self) {
        self.is_idle = false;
        self.cause = None;
        if self.retry == Retry::Planned {
            self.retry = Retry::Begun;
            // The text of the failed try comes again, in the same message.
            if let Some(message) = &self.answering {
                self.answer.retract(message);
            }
        }
    }

    fn break_off(&mut self, message: String) -> Option<Activity> {
        if self.broken.contains(&message) {
            return None;
        }
        self.answer.exclude(message.clone());
        self.broken.push(message);
        let times = self.broken.len();
        if times >= MAX_BROKEN {
            let reason = format!("the model's answer broke off {times} times in a row");
            self.give_up(Failure::new(ErrorKind::Overload, reason));
        }
        Some(Activity::Retry("the model's answer broke off".to_owned()))
    }

    fn fail(&mut self, mut failure: Failure) {
        if failure.kind == ErrorKind::Context {
            self.overflows += 1;
            if self.overflows >= MAX_OVERFLOWS {
                self.give_up(failure.clone());
            }
        }
        // Only what may pass is tried again.
        if failure.kind == ErrorKind::Api && self.retry != Retry::No {
            failure.kind = ErrorKind::Overload;
        }
        self.cause = Some(failure);
    }

    fn give_up(&mut self, failure: Failure) {
        if self.cancelled_at.is_none() {
            self.given_up.get_or_insert(failure);
        }
    }

    /// Handles a `session/update`; returns the activities for the supervisor.
    pub(super) fn update(&mut self, update: &Value) -> Vec<Activity> {
        let text = |key: &str| update[key].as_str().unwrap_or_default().to_owned();
        let kind = update["sessionUpdate"].as_str().unwrap_or_default();
        // Others are about the conversation, and come at any time.
        self.is_acknowledged |= kind.ends_with("_chunk") || kind.starts_with("tool_call");
        match kind {
            "agent_message_chunk" => {
                self.answer.add(
                    update["messageId"].as_str(),
                    update["content"]["text"].as_str().unwrap_or_default(),
                );
                vec![Activity::Other]
            }
            "tool_call" => {
                let spoken = self.answer.begin_tool().map(Activity::Text);
                let mut activities: Vec<_> = spoken.into_iter().collect();
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
            Err(error) => {
                let failure = self.cause.unwrap_or_else(|| failure(&error));
                (Outcome::Failed(failure), None, None)
            }
            Ok(answer) => {
                let spoken = self.answer.into_answer();
                let usage = usage(&answer);
                // opencode calls it an ordinary end when it was stopped while
                // it tried a model call again; its text is then from calls that
                // broke off.
                let is_broken_off =
                    spoken.is_none() || usage.is_some_and(|usage| usage.output_tokens == 0);
                if self.cancelled_at.is_some() && is_broken_off {
                    (Outcome::Interrupted, usage, None)
                } else {
                    // opencode calls it an ordinary end.
                    let stop_reason = if self.is_cut {
                        Some("max_tokens")
                    } else {
                        answer["stopReason"].as_str()
                    };
                    let (outcome, warning) = outcome(stop_reason, spoken);
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

fn outcome(stop_reason: Option<&str>, spoken: Option<String>) -> (Outcome, Option<String>) {
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
            (Outcome::Answer(spoken), Some(warning))
        }
        _ => (Outcome::Answer(spoken), None),
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
    let reason = error.describe();
    let status = in_data.or(in_code).or_else(|| status_in(&reason));
    let kind = match status {
        Some(status) => kind_of_status(status),
        None if error.code == AUTH_REQUIRED => ErrorKind::Auth,
        None => ErrorKind::Api,
    };
    Failure::new(kind, reason)
}

/// A call that is tried again comes without its status. Who asks for a long pause
/// has a limit, unless the words say something else.
fn too_long_a_pause(reason: &str, pause: Duration) -> Failure {
    let lower = reason.to_lowercase();
    let is_overload = ["overload", "unavailable"]
        .iter()
        .any(|word| lower.contains(word));
    let kind = if is_overload {
        ErrorKind::Overload
    } else {
        ErrorKind::RateLimit
    };
    let seconds = pause.as_secs();
    let text = format!("{reason} (the provider asks for a pause of {seconds} s)");
    Failure {
        retry_after: Some(pause),
        ..Failure::new(kind, text)
    }
}

/// The first number in a text that can be the status of an HTTP error.
fn status_in(reason: &str) -> Option<u64> {
    reason
        .split(|character: char| !character.is_ascii_digit())
        .filter(|number| number.len() == 3)
        .find_map(|number| {
            number
                .parse()
                .ok()
                .filter(|status| (400..600).contains(status))
        })
}
