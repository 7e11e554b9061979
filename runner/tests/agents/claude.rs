//! The `claude` agent with a stand-in that misbehaves.

use drawbridge_shared::protocol::RecordStatus;

use crate::harness::{Group, eventually, terminate};

crate::tests![
    the_session_is_reported_and_resumed,
    a_missing_session_is_begun_anew_in_the_same_run,
    an_api_error_is_an_error_and_the_conversation_goes_on,
    a_failed_start_says_why,
    a_crash_shows_the_last_lines,
    an_end_without_an_answer_is_an_error,
    every_request_of_the_agent_is_answered,
    what_others_say_is_not_the_answer,
    a_folded_message_is_confirmed,
    versions_without_receipts_lose_nothing,
    a_flood_does_not_drown_the_answer,
    odd_characters_do_not_lose_a_result,
    a_result_with_markers_arrives_whole,
    a_grandchild_that_holds_the_pipe_does_not_hold_the_run,
    an_agent_that_ignores_the_end_is_killed,
    an_unasked_result_is_reported,
    a_stop_interrupts_the_turn_first,
    the_program_is_named_when_it_is_missing,
    the_key_is_in_the_environment_and_not_in_the_arguments,
];

const SESSION: &str = "3385aa4e-1111-4f6d-9e1a-000000000001";

fn the_session_is_reported_and_resumed() {
    let group = Group::new();
    let mut document = group.claude("x", "flags");
    document["sessionId"] = SESSION.into();
    document["drawbridge"]["agent"]["model"] = "some-model".into();
    let (record, exit) = group.run_once(&document);
    assert_eq!(exit, 0);
    assert_eq!(record.new_session_id.as_deref(), Some(SESSION));
    let flags = record.result.unwrap();
    for flag in [
        &format!("--resume={SESSION}"),
        "--model=some-model",
        "--verbose",
    ] {
        assert!(flags.lines().any(|line| line == flag), "{flag} in {flags}");
    }
}

fn a_missing_session_is_begun_anew_in_the_same_run() {
    let group = Group::new();
    let mut document = group.claude("hello", "no-such-session");
    document["sessionId"] = "00000000-0000-4000-8000-000000000000".into();
    let run = group.run(&document);
    let record = run.record();
    assert_eq!(record.result.as_deref(), Some("Reply to: hello"));
    let notice = record.details.notice.unwrap();
    assert!(notice.contains("is lost"), "{notice}");
    assert_eq!(
        record.new_session_id.as_deref(),
        Some(SESSION),
        "not the lost one"
    );
    group.close();
    let (exit, stderr) = run.exit();
    assert_eq!(exit, 0);
    assert!(stderr.contains("a new one was started"), "{stderr}");
}

fn an_api_error_is_an_error_and_the_conversation_goes_on() {
    let group = Group::new();
    let run = group.run(&group.claude("one", "api-error"));
    assert!(run.error().contains("API Error: 401"));
    group.message("two");
    assert!(run.error().contains("API Error: 401"));
    group.close();
    assert_eq!(run.exit().0, 1, "the last record is an error");
    assert_eq!(group.received(), ["one", "two"]);
    assert_eq!(group.input_files(".taken"), [""; 0]);
}

fn a_failed_start_says_why() {
    let group = Group::new();
    let run = group.run(&group.claude("x", "start-failure"));
    let record = run.record();
    assert_eq!(record.error.as_deref(), Some("bypass_root"));
    assert_eq!(record.new_session_id, None);
    assert_eq!(run.exit().0, 1);
}

fn a_crash_shows_the_last_lines() {
    let group = Group::new();
    group.message("kept");
    let run = group.run(&group.claude("x", "crash"));
    let error = run.error();
    assert!(
        error.starts_with("Claude Code ended with exit code 42: "),
        "{error}"
    );
    assert!(error.ends_with("trace line 9999"), "{error}");
    assert!(error.len() < 5000);
    assert_eq!(run.exit().0, 1);
    assert_eq!(
        group.input_files(".taken").len(),
        1,
        "not confirmed, so not removed"
    );
}

fn an_end_without_an_answer_is_an_error() {
    let group = Group::new();
    let run = group.run(&group.claude("x", "silent-exit"));
    assert_eq!(run.record().status, RecordStatus::Error);
    assert_eq!(run.exit().0, 1);
}

fn every_request_of_the_agent_is_answered() {
    let group = Group::new();
    let (record, _) = group.run_once(&group.claude("x", "asks"));
    assert_eq!(record.result.as_deref(), Some("success error error"));
}

fn what_others_say_is_not_the_answer() {
    let group = Group::new();
    let run = group.run(&group.claude("x", "others-talk"));
    assert_eq!(run.answer(), "the answer");
    group.close();
    let (exit, stderr) = run.exit();
    assert_eq!(exit, 0);
    assert!(stderr.contains("tool server broken is failed"), "{stderr}");
}

fn a_folded_message_is_confirmed() {
    let group = Group::new();
    let run = group.run(&group.claude("one", "folds"));
    eventually("the first message", || group.received() == ["one"]);
    group.message("two");
    assert_eq!(run.answer(), "Reply to: one and two");
    eventually("the receipt", || group.input_files(".taken").is_empty());
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn versions_without_receipts_lose_nothing() {
    let group = Group::new();
    let run = group.run(&group.claude("one", "old"));
    assert_eq!(run.answer(), "Reply to: one");
    group.message("two");
    assert_eq!(run.answer(), "Reply to: two");
    eventually("the confirmation by silence", || {
        group.input_files(".taken").is_empty()
    });
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn a_flood_does_not_drown_the_answer() {
    let group = Group::new();
    let (record, exit) = group.run_once(&group.claude("x", "flood"));
    assert_eq!((record.result.as_deref(), exit), (Some("Reply to: x"), 0));
}

fn odd_characters_do_not_lose_a_result() {
    let group = Group::new();
    let (record, _) = group.run_once(&group.claude("x", "odd-result"));
    assert_eq!(record.result.as_deref(), Some("a\u{fffd}b\0c\u{fffd}"));
}

fn a_result_with_markers_arrives_whole() {
    let group = Group::new();
    let (record, _) = group.run_once(&group.claude("x", "big-result"));
    let result = record.result.unwrap();
    assert_eq!(
        result,
        "---NANOCLAW_OUTPUT_END---\n\0x".repeat(5_000_000 / 28)
    );
}

fn a_grandchild_that_holds_the_pipe_does_not_hold_the_run() {
    let group = Group::new();
    let run = group.run(&group.claude("x", "grandchild"));
    assert_eq!(run.answer(), "Reply to: x");
    assert_eq!(run.record().result, None, "the session update");
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn an_agent_that_ignores_the_end_is_killed() {
    let group = Group::new();
    let run = group.run(&group.claude("x", "lingers"));
    assert_eq!(run.answer(), "Reply to: x");
    eventually("rest", || group.heartbeat()["working"] == false);
    terminate(&run);
    assert_eq!(run.exit().0, 130);
}

fn an_unasked_result_is_reported() {
    let group = Group::new();
    let run = group.run(&group.claude("x", "unasked"));
    assert_eq!(run.answer(), "Reply to: x");
    assert_eq!(run.answer(), "the background task is done");
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn a_stop_interrupts_the_turn_first() {
    let group = Group::new();
    let run = group.run(&group.claude("x", "interruptible"));
    eventually("the message", || group.received() == ["x"]);
    terminate(&run);
    let record = run.record();
    assert_eq!(
        (record.status, &record.result),
        (RecordStatus::Success, &None)
    );
    assert!(run.error().contains("stopped"));
    assert_eq!(run.exit().0, 130);
}

fn the_program_is_named_when_it_is_missing() {
    let group = Group::new();
    let run = group.run(&group.document("x", "claude", &["/no/such/claude"]));
    let error = run.error();
    assert!(error.contains("/no/such/claude"), "{error}");
    assert_eq!(run.exit().0, 1);
}

fn the_key_is_in_the_environment_and_not_in_the_arguments() {
    let group = Group::new();
    let mut document = group.claude("x", "environment");
    document["drawbridge"]["proxy"] = serde_json::json!({
        "endpoint": { "url": "http://127.0.0.1:9/" }, "token": "dbs_token", "authMode": "oauth",
    });
    let (record, _) = group.run_once(&document);
    let environment = record.result.unwrap();
    for expected in [
        "ANTHROPIC_BASE_URL=http://127.0.0.1:9",
        "CLAUDE_CODE_OAUTH_TOKEN=dbs_token",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
    ] {
        assert!(
            environment.lines().any(|line| line == expected),
            "{expected}"
        );
    }
    assert!(!environment.contains("ANTHROPIC_API_KEY"));
    document["drawbridge"]["agent"] = group.claude("x", "flags")["drawbridge"]["agent"].clone();
    let (record, _) = group.run_once(&document);
    assert!(!record.result.unwrap().contains("dbs_token"));
}
