//! Events of opencode's server about model calls. No IO.

use std::time::{Duration, SystemTime};

use drawbridge_shared::json::from_slice_lossy;
use drawbridge_shared::protocol::ErrorKind;
use serde_json::Value;

use crate::agent::api_error::{kind_of_status, kind_of_type};
use crate::agent::types::Failure;

/// An event about a model call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent::acp) enum ModelCall {
    /// The conversation goes on: with a call, or with another try of one.
    Busy,
    /// The conversation's turn has ended; nothing more is reported of it.
    Idle,
    /// Its answer has this id.
    Answering(String),
    /// The message of this id sums the conversation up and is no answer.
    Summary(String),
    /// The answer of this id broke off; another one is asked for at once.
    BrokeOff(String),
    /// The answer was cut at the output limit.
    Cut,
    /// It made the agent use a tool.
    UsedTool,
    /// It failed and is tried again after a pause.
    Retry {
        /// Whether it is the conversation's own, and not a subagent's.
        is_own: bool,
        reason: String,
        pause: Duration,
    },
    /// It failed, and mostly the conversation's turn with it.
    Failed(Failure),
}

impl ModelCall {
    /// Reads one line of the event stream; each event is one `data:` line.
    pub(in crate::agent::acp) fn parse(line: &[u8], session: &str) -> Option<Self> {
        let event: Value = from_slice_lossy(line.strip_prefix(b"data:")?).ok()?;
        let (kind, properties) = (&event["payload"]["type"], &event["payload"]["properties"]);
        // Subagents have sessions of their own.
        let is_own = properties["sessionID"] == session;
        match kind.as_str()? {
            // A subagent's failure goes to the agent, and does not end the
            // turn.
            "session.error" if is_own => failure(&properties["error"]).map(Self::Failed),
            "session.status" => status(&properties["status"], is_own),
            // A call that breaks off in the middle of a tool's input is only pending.
            "message.part.updated" if properties["part"]["state"]["status"] == "running" => {
                Some(Self::UsedTool)
            }
            "message.updated" => message(&properties["info"], is_own),
            _ => None,
        }
    }
}

fn failure(error: &Value) -> Option<Failure> {
    let data = &error["data"];
    let reason = data["message"].as_str().unwrap_or("no reason given");
    let kind = match (error["name"].as_str(), data["statusCode"].as_u64()) {
        // The request to stop is known.
        (Some("MessageAbortedError"), _) => return None,
        (Some("ProviderAuthError"), _) => ErrorKind::Auth,
        (Some("ContextOverflowError"), _) => ErrorKind::Context,
        (_, Some(status)) => kind_of_status(status),
        // Such as a connection that cannot be made.
        (_, None) if data["isRetryable"] == true => ErrorKind::Overload,
        _ => return Some(failure_in_stream(reason)),
    };
    Some(Failure::new(kind, reason))
}

/// An error that came in the middle of an answer is reported as the API's own
/// JSON.
fn failure_in_stream(reason: &str) -> Failure {
    let error: Value = serde_json::from_str(reason).unwrap_or_default();
    match (error["type"].as_str(), error["message"].as_str()) {
        (Some(kind), Some(message)) => Failure::new(kind_of_type(kind, message), message),
        _ => Failure::new(ErrorKind::Api, reason),
    }
}

fn status(status: &Value, is_own: bool) -> Option<ModelCall> {
    match status["type"].as_str()? {
        "busy" if is_own => Some(ModelCall::Busy),
        "idle" if is_own => Some(ModelCall::Idle),
        "retry" => {
            let until = Duration::from_millis(status["next"].as_u64().unwrap_or_default());
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let reason = status["message"].as_str().unwrap_or_default();
            Some(ModelCall::Retry {
                is_own,
                reason: failure_in_stream(reason).message,
                pause: until.saturating_sub(now.unwrap_or_default()),
            })
        }
        _ => None,
    }
}

fn message(message: &Value, is_own: bool) -> Option<ModelCall> {
    let id = message["id"]
        .as_str()
        .filter(|_| message["role"] == "assistant")?;
    match message["finish"].as_str() {
        // The model neither said why it stopped nor was anything counted. opencode
        // takes that for the middle of a turn and goes on.
        Some("unknown") if message["tokens"]["output"] == 0 => {
            Some(ModelCall::BrokeOff(id.to_owned()))
        }
        _ if !is_own => None,
        _ if message["summary"] == true => Some(ModelCall::Summary(id.to_owned())),
        None => Some(ModelCall::Answering(id.to_owned())),
        Some("length") => Some(ModelCall::Cut),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(kind: &str, properties: &Value) -> Option<ModelCall> {
        let event = json!({"directory": "/w", "payload": {"type": kind, "properties": properties}});
        ModelCall::parse(format!("data: {event}").as_bytes(), "ses_1")
    }

    fn failed(error: &Value) -> Option<(ErrorKind, String)> {
        let properties = json!({"sessionID": "ses_1", "error": error});
        match parsed("session.error", &properties)? {
            ModelCall::Failed(failure) => Some((failure.kind, failure.message)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failures_are_told_apart() {
        let named = |name: &str, data: Value| {
            failed(&json!({"name": name, "data": data})).map(|(kind, _)| kind)
        };
        let status = |status: u64| named("APIError", json!({"statusCode": status}));
        assert_eq!(status(401), Some(ErrorKind::Auth));
        assert_eq!(status(429), Some(ErrorKind::RateLimit));
        assert_eq!(status(529), Some(ErrorKind::Overload));
        let retryable = |is: bool| named("APIError", json!({"isRetryable": is}));
        assert_eq!(retryable(true), Some(ErrorKind::Overload));
        assert_eq!(retryable(false), Some(ErrorKind::Api));
        let nothing = || json!({});
        assert_eq!(named("ProviderAuthError", nothing()), Some(ErrorKind::Auth));
        assert_eq!(
            named("ContextOverflowError", nothing()),
            Some(ErrorKind::Context)
        );
        assert_eq!(named("UnknownError", nothing()), Some(ErrorKind::Api));
        assert_eq!(named("MessageAbortedError", nothing()), None);
        let in_stream = r#"{"type":"overloaded_error","message":"Overloaded"}"#;
        let error = json!({"name": "UnknownError", "data": {"message": in_stream}});
        assert_eq!(
            failed(&error),
            Some((ErrorKind::Overload, "Overloaded".to_owned()))
        );
    }

    #[test]
    fn messages_are_told_apart() {
        let message = |session: &str, finish: Value, output: u64, summary: bool| {
            let info = json!({
                "id": "msg_1", "role": "assistant", "finish": finish,
                "tokens": {"output": output}, "summary": summary,
            });
            parsed(
                "message.updated",
                &json!({"sessionID": session, "info": info}),
            )
        };
        let id = || "msg_1".to_owned();
        let broken = Some(ModelCall::BrokeOff(id()));
        assert_eq!(message("ses_1", json!("unknown"), 0, false), broken);
        assert_eq!(
            message("ses_2", json!("unknown"), 0, false),
            broken,
            "of a subagent"
        );
        assert_eq!(
            message("ses_1", json!("unknown"), 5, false),
            None,
            "gives no reason"
        );
        let summary = Some(ModelCall::Summary(id()));
        assert_eq!(message("ses_1", json!("stop"), 5, true), summary);
        let answering = Some(ModelCall::Answering(id()));
        assert_eq!(message("ses_1", Value::Null, 0, false), answering);
        assert_eq!(
            message("ses_1", json!("length"), 5, false),
            Some(ModelCall::Cut)
        );
        assert_eq!(message("ses_1", json!("stop"), 5, false), None);
        assert_eq!(message("ses_2", json!("length"), 5, false), None);
    }

    #[test]
    fn only_a_running_tool_counts() {
        let tool = |status: &str| {
            let part = json!({"type": "tool", "tool": "bash", "state": {"status": status}});
            parsed("message.part.updated", &json!({"part": part}))
        };
        assert_eq!(tool("running"), Some(ModelCall::UsedTool));
        assert_eq!(tool("pending"), None);
    }

    #[test]
    fn noise_is_passed_over() {
        let of_a_subagent = json!({"sessionID": "ses_2", "error": {"name": "APIError"}});
        assert_eq!(parsed("session.error", &of_a_subagent), None);
        let idle = json!({"sessionID": "ses_2", "status": {"type": "idle"}});
        assert_eq!(parsed("session.status", &idle), None);
        for line in ["", ": ping", "data:", "data: {", "data: []", "event: x"] {
            assert_eq!(ModelCall::parse(line.as_bytes(), "ses_1"), None, "{line}");
        }
    }
}
