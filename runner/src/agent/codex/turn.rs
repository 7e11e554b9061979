//! One turn of Codex: what was sent into it and what came out. No IO.

use drawbridge_shared::protocol::{ErrorKind, Usage};
use serde_json::Value;

use crate::agent::api_error::kind_of_status;
use crate::agent::types::{Activity, AgentEvent, Failure, Outcome};
use crate::host::message::UserMessage;

/// A running turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    id: Option<String>,
    /// Messages that Codex has not reported as part of the conversation.
    sent: Vec<Sent>,
    /// The newest text; the last one is the answer.
    text: Option<String>,
    usage: Usage,
    model_calls: u32,
    interrupt: Interrupt,
    /// Why the last model call was tried again.
    retried_for: Option<ErrorKind>,
}

#[derive(Debug)]
struct Sent {
    request: u64,
    message: UserMessage,
    begins: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Interrupt {
    #[default]
    NotWanted,
    /// Wanted, but the turn has no id yet.
    Wanted,
    Sent,
}

impl Turn {
    pub(super) fn begun_by(&mut self, request: u64, message: UserMessage) {
        self.sent.push(Sent {
            request,
            message,
            begins: true,
        });
    }

    pub(super) fn steered_by(&mut self, request: u64, message: UserMessage) {
        self.sent.push(Sent {
            request,
            message,
            begins: false,
        });
    }

    pub(super) fn is_begun_by(&self, request: u64) -> bool {
        self.sent
            .iter()
            .any(|sent| sent.begins && sent.request == request)
    }

    /// Takes back a message that Codex refused, and whether it began the turn.
    pub(super) fn refused(&mut self, request: u64) -> Option<(UserMessage, bool)> {
        let at = self.sent.iter().position(|sent| sent.request == request)?;
        let sent = self.sent.remove(at);
        Some((sent.message, sent.begins))
    }

    pub(super) fn set_id(&mut self, id: Option<&str>) {
        if self.id.is_none() {
            self.id = id.map(ToOwned::to_owned);
        }
    }

    pub(super) fn is(&self, id: Option<&str>) -> bool {
        self.id.is_none() || self.id.as_deref() == id
    }

    /// The turn's id, if messages can be sent into it.
    pub(super) fn steerable(&self) -> Option<String> {
        self.id
            .clone()
            .filter(|_| self.interrupt == Interrupt::NotWanted)
    }

    /// Notes the wish to interrupt; the turn's id when it can be sent now.
    pub(super) fn interrupt(&mut self) -> Option<String> {
        if self.interrupt == Interrupt::Sent {
            return None;
        }
        self.interrupt = if self.id.is_some() {
            Interrupt::Sent
        } else {
            Interrupt::Wanted
        };
        self.id.clone()
    }

    pub(super) fn wants_interrupt(&self) -> bool {
        self.interrupt == Interrupt::Wanted && self.id.is_some()
    }

    /// Handles a step of the turn; returns the event for the supervisor.
    pub(super) fn item(&mut self, item: &Value, is_complete: bool) -> Vec<AgentEvent> {
        let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let activity = |activity| vec![AgentEvent::Activity(activity)];
        match item["type"].as_str().unwrap_or_default() {
            "userMessage" => self.received(item["clientId"].as_str()),
            "agentMessage" if is_complete => {
                let earlier = self.text.replace(text("text"));
                earlier.map_or_else(Vec::new, |text| activity(Activity::Text(text)))
            }
            "contextCompaction" => activity(Activity::Compaction),
            kind @ ("commandExecution"
            | "fileChange"
            | "mcpToolCall"
            | "dynamicToolCall"
            | "webSearch"
            | "collabAgentToolCall") => {
                let id = text("id");
                if is_complete {
                    return activity(Activity::ToolEnd { id });
                }
                let name = item["tool"].as_str().unwrap_or(kind).to_owned();
                activity(Activity::ToolStart {
                    id,
                    name,
                    timeout: None,
                })
            }
            _ => activity(Activity::Other),
        }
    }

    fn received(&mut self, client_id: Option<&str>) -> Vec<AgentEvent> {
        let is_it = |sent: &Sent| client_id == Some(&sent.message.id.0.to_string());
        match self.sent.iter().position(is_it) {
            // The request's answer still needs the one that began the turn.
            Some(at) => vec![AgentEvent::Received(self.sent.remove(at).message.id)],
            None => Vec::new(),
        }
    }

    /// Adds the tokens of one model call.
    pub(super) fn count(&mut self, usage: &Value) {
        let last = |key: &str| usage["last"][key].as_u64().unwrap_or_default();
        let (cached, written) = (last("cachedInputTokens"), last("cacheWriteInputTokens"));
        self.usage.input_tokens += last("inputTokens").saturating_sub(cached + written);
        self.usage.cache_read_tokens += cached;
        self.usage.cache_write_tokens += written;
        self.usage.output_tokens += last("outputTokens");
        self.model_calls += 1;
    }

    /// Tokens and model calls, if Codex reported any.
    pub(super) fn usage(&self) -> (Option<Usage>, Option<u32>) {
        let calls = Some(self.model_calls).filter(|calls| *calls > 0);
        (calls.map(|_| self.usage), calls)
    }

    /// Notes that a model call failed and is tried again.
    pub(super) fn retries(&mut self, error: &Value) {
        self.retried_for = kind_of(&error["codexErrorInfo"]);
    }

    /// The outcome of the turn.
    pub(super) fn outcome(&mut self, turn: &Value) -> Outcome {
        match turn["status"].as_str().unwrap_or_default() {
            "interrupted" => Outcome::Interrupted,
            "failed" => Outcome::Failed(self.failure(&turn["error"])),
            _ => Outcome::Answer(self.text.take()),
        }
    }

    /// Codex calls the last of several failures "other", so the kind of those
    /// before it counts.
    fn failure(&self, error: &Value) -> Failure {
        let message = error["message"]
            .as_str()
            .unwrap_or("the turn failed without a reason");
        let kind = kind_of(&error["codexErrorInfo"]).or(self.retried_for);
        Failure::new(kind.unwrap_or(ErrorKind::Api), message)
    }

    /// Messages that Codex never reported: the one that began the turn, and
    /// those sent into it.
    pub(super) fn unreceived(self) -> (Vec<UserMessage>, Vec<UserMessage>) {
        let (begins, steers): (Vec<_>, Vec<_>) =
            self.sent.into_iter().partition(|sent| sent.begins);
        let messages = |sent: Vec<Sent>| sent.into_iter().map(|sent| sent.message).collect();
        (messages(begins), messages(steers))
    }
}

/// The kind of an error; `None` when Codex does not say.
fn kind_of(info: &Value) -> Option<ErrorKind> {
    if let Some(details) = info.as_object().and_then(|info| info.values().next()) {
        let status = details["httpStatusCode"].as_u64();
        // These are about the connection; without a status it broke.
        return Some(status.map_or(ErrorKind::Overload, kind_of_status));
    }
    Some(match info.as_str()? {
        "contextWindowExceeded" => ErrorKind::Context,
        "sessionBudgetExceeded" | "usageLimitExceeded" => ErrorKind::Budget,
        "rateLimitExceeded" => ErrorKind::RateLimit,
        "serverOverloaded" | "internalServerError" | "flexUnavailable" => ErrorKind::Overload,
        "unauthorized" => ErrorKind::Auth,
        _ => return None,
    })
}
