//! The `codex` and `acp` agents with a fake that misbehaves: one suite for
//! both protocols.

use drawbridge_shared::protocol::{ErrorKind, RecordKind};
use serde_json::{Value, json};

use crate::fake_rpc_agent::SESSION;
use crate::harness::{Group, Run, eventually};

crate::tests![
    a_conversation_has_answers_usage_and_a_version,
    what_is_said_while_it_works_is_answered_too,
    an_interrupt_ends_the_turn_and_keeps_the_conversation,
    an_agent_that_is_deaf_to_an_interrupt_is_replaced,
    what_a_deaf_agent_may_not_have_read_is_still_owed,
    the_conversation_is_resumed_without_its_old_texts,
    a_refused_key_is_an_error_of_that_kind,
    a_stop_ends_a_working_agent,
    what_a_stopped_agent_says_at_its_end_counts,
    a_kill_loses_no_message,
    the_key_is_in_the_environment_and_not_in_the_arguments,
    added_arguments_reach_codex_and_change_no_key_of_ours,
    an_acp_agent_needs_a_program,
    chat_text_is_no_command_of_an_acp_agent,
];

const PROTOCOLS: [&str; 2] = ["codex", "acp"];

fn document(group: &Group, protocol: &str, prompt: &str, scenario: &str) -> Value {
    let this = std::env::current_exe().unwrap();
    let scenario = format!("{protocol}-{scenario}");
    group.document(
        prompt,
        protocol,
        &[this.to_str().unwrap(), "fake-agent", &scenario],
    )
}

/// A run of the scenario in folders of its own, for each protocol.
fn each(prompt: &str, scenario: &str, check: impl Fn(&str, &Group, Run)) {
    for protocol in PROTOCOLS {
        let group = Group::new();
        let run = group.run(&document(&group, protocol, prompt, scenario));
        check(protocol, &group, run);
    }
}

fn close(group: &Group, run: Run) -> i32 {
    group.close();
    run.exit().0
}

fn a_conversation_has_answers_usage_and_a_version() {
    each("one", "polite", |protocol, group, run| {
        let record = run.record();
        assert_eq!(record.result.as_deref(), Some("Reply to: one"));
        assert_eq!(record.new_session_id.as_deref(), Some(SESSION));
        let usage = record.details.usage.unwrap();
        assert_eq!(
            (
                usage.input_tokens,
                usage.cache_read_tokens,
                usage.output_tokens
            ),
            (10, 1, 7)
        );
        let version = if protocol == "codex" {
            "0.169.0"
        } else {
            "7.8.9"
        };
        assert_eq!(record.details.agent_version.as_deref(), Some(version));
        group.message("two");
        assert_eq!(run.answer(), "Reply to: two");
        assert_eq!(close(group, run), 0);
        assert_eq!(group.received(), ["one", "two"]);
        assert_eq!(group.input_files(".taken"), [""; 0]);
    });
}

/// Codex takes it into the running turn, ACP into the next one.
fn what_is_said_while_it_works_is_answered_too() {
    let group = Group::new();
    let run = group.run(&document(&group, "codex", "one", "waits"));
    eventually("the turn", || group.received() == ["one"]);
    group.message("two");
    assert_eq!(run.answer(), "Reply to: one + two");
    assert_eq!(close(&group, run), 0);
    assert_eq!(group.input_files(".taken"), [""; 0]);

    let group = Group::new();
    let run = group.run(&document(&group, "acp", "one", "waits"));
    eventually("the turn", || group.received() == ["one"]);
    group.message("two");
    eventually("the message", || !group.input_files(".taken").is_empty());
    group.input_file("9-interrupt.json", &json!({"type": "interrupt"}));
    assert_eq!(run.record().details.kind, Some(RecordKind::Interrupted));
    assert_eq!(run.answer(), "Reply to: two");
    assert_eq!(close(&group, run), 0);
    assert_eq!(group.input_files(".taken"), [""; 0]);
}

fn an_interrupt_ends_the_turn_and_keeps_the_conversation() {
    for scenario in ["waits", "waits-for-retry"] {
        each("one", scenario, |_, group, run| {
            eventually("the turn", || group.received() == ["one"]);
            group.input_file("1-interrupt.json", &json!({"type": "interrupt"}));
            assert_eq!(run.record().details.kind, Some(RecordKind::Interrupted));
            group.message("two");
            assert_eq!(run.answer(), "Reply to: two");
            assert_eq!(close(group, run), 0);
        });
    }
}

/// The turn is over, what waits is answered by the next process, and both are
/// said.
fn an_agent_that_is_deaf_to_an_interrupt_is_replaced() {
    for waits in [true, false] {
        let group = Group::new();
        let run = group.run(&document(&group, "acp", "one", "deaf"));
        eventually("the turn", || group.received() == ["one"]);
        if waits {
            group.message("two");
            eventually("the message", || !group.input_files(".taken").is_empty());
        }
        group.input_file("9-interrupt.json", &json!({"type": "interrupt"}));
        let record = run.record();
        assert_eq!(record.details.kind, Some(RecordKind::Interrupted));
        let notice = record.details.notice.unwrap();
        assert!(
            notice.contains("did not react to the interrupt"),
            "{notice}"
        );
        if !waits {
            let kind = run.record().details.kind;
            assert_eq!(kind, Some(RecordKind::SessionUpdate));
            group.message("two");
        }
        let record = run.record();
        assert_eq!(record.result.as_deref(), Some("Reply to: two"));
        assert_eq!(record.new_session_id.as_deref(), Some(SESSION));
        assert_eq!(close(&group, run), 0);
        assert_eq!(group.received(), ["one", "two"]);
        assert_eq!(group.input_files(".taken"), [""; 0]);
    }
}

fn what_a_deaf_agent_may_not_have_read_is_still_owed() {
    let group = Group::new();
    group.message("two");
    let run = group.run(&document(&group, "acp", "one", "deaf-from-the-start"));
    eventually("the turn", || group.received() == ["one\ntwo"]);
    group.input_file("9-interrupt.json", &json!({"type": "interrupt"}));
    let record = run.record();
    assert_eq!(record.details.error_kind, Some(ErrorKind::Crash));
    assert_eq!(run.exit().0, 1);
    let (record, _) = group.run_once(&document(&group, "acp", "three", "polite"));
    assert_eq!(record.result.as_deref(), Some("Reply to: three\ntwo"));
}

fn the_conversation_is_resumed_without_its_old_texts() {
    for protocol in PROTOCOLS {
        let group = Group::new();
        let mut document = document(&group, protocol, "on", "polite");
        document["sessionId"] = "an-earlier-one".into();
        let (record, exit) = group.run_once(&document);
        assert_eq!(record.result.as_deref(), Some("Reply to: on"));
        assert_eq!(record.new_session_id.as_deref(), Some("an-earlier-one"));
        assert_eq!(exit, 0);
    }
}

fn a_refused_key_is_an_error_of_that_kind() {
    each("one", "unauthorized", |_, group, run| {
        let record = run.record();
        assert_eq!(record.details.error_kind, Some(ErrorKind::Auth));
        assert!(record.error.unwrap().contains("401 Unauthorized: bad key"));
        assert_eq!(close(group, run), 1);
        assert_eq!(group.input_files(".taken"), [""; 0]);
    });
}

fn a_stop_ends_a_working_agent() {
    each("one", "waits", |_, group, run| {
        eventually("the turn", || group.received() == ["one"]);
        run.terminate();
        assert_eq!(run.record().details.kind, Some(RecordKind::Interrupted));
        assert_eq!(run.record().details.error_kind, Some(ErrorKind::Stopped));
        assert_eq!(run.exit().0, 130);
    });
}

fn what_a_stopped_agent_says_at_its_end_counts() {
    for protocol in PROTOCOLS {
        let group = Group::new();
        group.message("two");
        let run = group.run(&document(&group, protocol, "one", "late"));
        eventually("the turn", || group.received() == ["one\ntwo"]);
        run.terminate();
        assert_eq!(run.record().details.kind, Some(RecordKind::Interrupted));
        assert_eq!(run.record().details.error_kind, Some(ErrorKind::Stopped));
        assert_eq!(run.exit().0, 130);
        assert_eq!(group.input_files(".taken"), [""; 0], "it was confirmed");
    }
}

/// With ACP a message that waits for the end of the turn is still owed.
fn a_kill_loses_no_message() {
    let group = Group::new();
    let run = group.run(&document(&group, "acp", "one", "waits"));
    eventually("the turn", || group.received() == ["one"]);
    group.message("two");
    eventually("the message", || !group.input_files(".taken").is_empty());
    run.kill();
    let (record, _) = group.run_once(&document(&group, "acp", "three", "polite"));
    assert_eq!(record.result.as_deref(), Some("Reply to: three\ntwo"));
}

fn the_key_is_in_the_environment_and_not_in_the_arguments() {
    let access = json!({
        "endpoint": {"url": "http://127.0.0.1:9/"}, "token": "session-token", "authMode": "api-key",
    });
    for (scenario, has_token) in [("flags", false), ("environment", true)] {
        let group = Group::new();
        let mut document = document(&group, "codex", "one", scenario);
        document["drawbridge"]["proxy"] = access.clone();
        let (record, _) = group.run_once(&document);
        let text = record.result.unwrap();
        assert_eq!(text.contains("session-token"), has_token, "{text}");
        if !has_token {
            assert!(
                text.contains("base_url=\"http://127.0.0.1:9/openai/v1\""),
                "{text}"
            );
            assert!(
                text.contains("mcp_servers.nanoclaw.env.NANOCLAW_CHAT_JID=\"1@g.us\""),
                "{text}"
            );
        }
    }
}

fn added_arguments_reach_codex_and_change_no_key_of_ours() {
    let group = Group::new();
    let mut document = document(&group, "codex", "one", "flags");
    document["drawbridge"]["agent"]["extraArgs"] = json!(["-c", "model_verbosity=low"]);
    let (record, _) = group.run_once(&document);
    let text = record.result.unwrap();
    assert!(text.contains("model_verbosity=low"), "{text}");
    let keys = text.split_whitespace().filter(|word| word.contains('='));
    let ours: Vec<_> = keys
        .filter(|key| !key.starts_with("model_verbosity"))
        .collect();
    assert!(
        ours.iter().any(|key| key.starts_with("approval_policy=")),
        "{text}"
    );
    for key in ours
        .iter()
        .filter(|key| key.starts_with(char::is_lowercase))
    {
        document["drawbridge"]["agent"]["extraArgs"] = json!(["-c", key]);
        let run = group.run(&document);
        assert!(run.error().contains("is set by drawbridge"), "{key}");
        assert_eq!(run.exit().0, 1);
    }
}

fn an_acp_agent_needs_a_program() {
    let group = Group::new();
    let run = group.run(&group.document("one", "acp", &[]));
    assert!(run.error().contains("needs a program"));
    assert_eq!(run.exit().0, 1);
}

fn chat_text_is_no_command_of_an_acp_agent() {
    for text in ["/compact", " $review", "\n/init"] {
        let group = Group::new();
        let (record, _) = group.run_once(&document(&group, "acp", text, "polite"));
        let answer = record.result.unwrap();
        assert!(answer.contains("The user wrote:"), "{answer}");
        assert!(answer.contains(text.trim()), "{answer}");
    }
}
