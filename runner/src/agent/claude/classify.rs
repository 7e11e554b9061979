//! Classification of Claude Code's messages.

use std::time::Duration;

use drawbridge_shared::protocol::ErrorKind;

use super::wire::{Assistant, TurnResult};
use crate::agent::types::{Activity, Failure, Outcome};

/// The outcome of a turn. `interrupted` says that we had asked for it.
pub(super) fn outcome(result: &TurnResult, interrupted: bool) -> Outcome {
    let aborted = result
        .terminal_reason
        .as_deref()
        .is_some_and(|reason| reason.starts_with("aborted"));
    if aborted || (interrupted && result.subtype == "error_during_execution") {
        Outcome::Interrupted
    } else if result.is_error || result.subtype.starts_with("error") {
        Outcome::Failed(failure(result))
    } else {
        Outcome::Answer(result.result.clone())
    }
}

/// The cost of a turn, given the sum before it.
pub(super) fn cost(result: &TurnResult, before: Option<f64>) -> Option<f64> {
    let share = result.model_usage_since_last_result.as_ref();
    share
        // Not `sum`, which makes -0 of nothing.
        .map(|models| models.values().fold(0.0, |sum, model| sum + model.cost_usd))
        .or_else(|| Some((result.total_cost_usd? - before?).max(0.0)))
}

/// The agent's own text and tool calls. A subagent's text and an error in the
/// model's place are not its own text.
pub(super) fn activities(assistant: Assistant) -> Vec<Activity> {
    let is_speech = assistant.parent_tool_use_id.is_none()
        && assistant.error.is_none()
        && assistant.message.model.as_deref() != Some("<synthetic>");
    let activity =
        |block: super::wire::Block| match (block.kind.as_str(), block.text, block.id, block.name) {
            ("text", Some(text), ..) if is_speech => Activity::Text(text),
            ("tool_use", _, Some(id), Some(name)) => {
                let limit = block.input.and_then(|input| input.timeout?.as_u64());
                Activity::ToolStart {
                    id,
                    name,
                    timeout: limit.map(Duration::from_millis),
                }
            }
            _ => Activity::Other,
        };
    assistant
        .message
        .content
        .into_iter()
        .map(activity)
        .collect()
}

/// The failure, in Claude Code's words.
pub(super) fn failure(result: &TurnResult) -> Failure {
    let text = result
        .result
        .clone()
        .filter(|text| !text.is_empty())
        .or_else(|| (!result.errors.is_empty()).then(|| result.errors.join("; ")))
        .or_else(|| result.startup_failure_reason.clone())
        .unwrap_or_else(|| result.subtype.clone());
    let kind = match (result.subtype.as_str(), result.api_error_status) {
        ("error_max_turns" | "error_max_budget_usd", _) => ErrorKind::Budget,
        (_, Some(401 | 403)) => ErrorKind::Auth,
        (_, Some(429)) => ErrorKind::RateLimit,
        (_, Some(500..)) => ErrorKind::Overload,
        (_, Some(413)) => ErrorKind::Context,
        _ if text.contains("Prompt is too long") => ErrorKind::Context,
        _ if text.contains("Not logged in") => ErrorKind::Auth,
        // The proxy or the provider cannot be reached, or dropped the answer.
        (_, None) if text.contains("Connection") => ErrorKind::Overload,
        _ => ErrorKind::Api,
    };
    Failure::new(kind, text)
}

/// The first version that leaves chat text alone when it is asked to.
const LITERAL_SINCE: [u32; 3] = [2, 1, 248];

/// A notice about a version, if there is one.
pub(super) fn notice_about(version: &str) -> Option<String> {
    let numbers: Result<Vec<u32>, _> = version.split('.').map(str::parse).collect();
    let is_older = numbers.is_ok_and(|numbers| numbers[..] < LITERAL_SINCE[..]);
    is_older.then(|| {
        let [major, minor, patch] = LITERAL_SINCE;
        format!(
            "Claude Code {version} takes `/command` and `@path` in chat text for its own; \
             {major}.{minor}.{patch} and newer do not"
        )
    })
}

/// Whether an error says that the conversation to resume does not exist; the
/// three forms that NanoClaw met.
pub(super) fn is_missing_session(text: &str) -> bool {
    let text = text.to_lowercase();
    let after = |first: &str, second: &str| {
        text.find(first)
            .is_some_and(|at| text[at..].contains(second))
    };
    text.contains("no conversation found")
        || after("enoent", ".jsonl")
        || after("session", "not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(json: &str) -> TurnResult {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn success_with_is_error_is_a_failure_of_the_right_kind() {
        for (fields, kind) in [
            (r#""api_error_status":401"#, ErrorKind::Auth),
            (r#""api_error_status":403"#, ErrorKind::Auth),
            (r#""api_error_status":429"#, ErrorKind::RateLimit),
            (r#""api_error_status":529"#, ErrorKind::Overload),
            (r#""api_error_status":400"#, ErrorKind::Api),
            (r#""result":"Prompt is too long""#, ErrorKind::Context),
            (r#""result":"Not logged in""#, ErrorKind::Auth),
            (
                r#""result":"API Error: Connection refused""#,
                ErrorKind::Overload,
            ),
        ] {
            let json = format!(r#"{{"subtype":"success","is_error":true,{fields}}}"#);
            match outcome(&result(&json), false) {
                Outcome::Failed(failure) => assert_eq!(failure.kind, kind, "{fields}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_used_up_budget_is_a_failure() {
        for subtype in ["error_max_turns", "error_max_budget_usd"] {
            let json = format!(r#"{{"subtype":"{subtype}","is_error":false}}"#);
            let Outcome::Failed(failure) = outcome(&result(&json), false) else {
                panic!("{subtype}");
            };
            assert_eq!(failure.kind, ErrorKind::Budget);
        }
    }

    #[test]
    fn versions_that_interpret_chat_text_are_named() {
        for old in ["2.1.71", "2.1.197", "2.1.247", "1.9.9"] {
            assert!(notice_about(old).is_some_and(|text| text.contains(old)));
        }
        for new in [
            "2.1.248",
            "2.1.329",
            "2.2.0",
            "3.0.0",
            "a build of one's own",
        ] {
            assert_eq!(notice_about(new), None);
        }
    }

    #[test]
    fn an_interrupt_is_no_failure_in_any_version() {
        let new = r#"{"subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_tools"}"#;
        let old = r#"{"subtype":"error_during_execution","is_error":false}"#;
        assert_eq!(outcome(&result(new), false), Outcome::Interrupted);
        assert_eq!(outcome(&result(old), true), Outcome::Interrupted);
        assert!(matches!(outcome(&result(old), false), Outcome::Failed(_)));
    }

    #[test]
    fn a_turns_cost_is_its_share_of_the_sum() {
        let old = r#"{"total_cost_usd":0.75}"#;
        assert_eq!(cost(&result(old), Some(0.5)), Some(0.25));
        assert_eq!(
            cost(&result(old), None),
            None,
            "the sum includes earlier runs"
        );
        let new = r#"{"total_cost_usd":9.0,"model_usage_since_last_result":
            {"a":{"costUSD":0.5},"b":{"costUSD":0.25}}}"#;
        assert_eq!(cost(&result(new), None), Some(0.75));
    }

    #[test]
    fn the_three_forms_of_a_missing_session_are_known() {
        for text in [
            "No conversation found with session ID: 0000",
            "ENOENT: no such file or directory, open '/x/0000.jsonl'",
            "Session 0000 was not found",
        ] {
            assert!(is_missing_session(text), "{text}");
        }
        assert!(!is_missing_session("file not found in this session"));
    }
}
