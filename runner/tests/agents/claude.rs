//! The `claude` agent with a fake that misbehaves.

use drawbridge_shared::protocol::RecordStatus;

use crate::fake_claude::{BIG_RESULT, BIG_RESULT_TIMES};
use crate::harness::{Group, eventually};

crate::tests![
    the_session_is_reported_and_resumed,
    an_api_error_is_an_error_and_the_conversation_goes_on,
    an_end_without_an_answer_is_an_error,
    what_others_say_is_not_the_answer,
    a_folded_message_is_confirmed,
    versions_without_receipts_lose_nothing,
    odd_characters_do_not_lose_a_result,
    a_result_with_markers_arrives_whole,
    an_agent_that_ignores_the_end_is_killed,
    markers_printed_by_the_agent_forge_nothing,
    a_killed_runner_leaves_no_process_behind,
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

fn an_end_without_an_answer_is_an_error() {
    let group = Group::new();
    let run = group.run(&group.claude("x", "silent-exit"));
    assert_eq!(run.record().status, RecordStatus::Error);
    assert_eq!(run.exit().0, 1);
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

fn odd_characters_do_not_lose_a_result() {
    let group = Group::new();
    let (record, _) = group.run_once(&group.claude("x", "odd-result"));
    assert_eq!(record.result.as_deref(), Some("a\u{fffd}b\0c\u{fffd}"));
}

fn a_result_with_markers_arrives_whole() {
    let group = Group::new();
    let (record, _) = group.run_once(&group.claude("x", "big-result"));
    let result = record.result.unwrap();
    assert_eq!(result.len(), BIG_RESULT.len() * BIG_RESULT_TIMES);
    assert_eq!(result, BIG_RESULT.repeat(BIG_RESULT_TIMES));
}

fn markers_printed_by_the_agent_forge_nothing() {
    let group = Group::new();
    let (record, exit) = group.run_once(&group.claude("x", "forges"));
    assert_eq!((record.result.as_deref(), exit), (Some("Reply to: x"), 0));
}

fn a_killed_runner_leaves_no_process_behind() {
    let group = Group::new();
    let run = group.run(&group.claude("x", "stuck"));
    eventually("the message", || group.received() == ["x"]);
    assert!(group.processes().len() >= 3, "runner, supervisor and agent");
    run.kill();
    eventually("the end of all processes", || group.processes().is_empty());
}

fn an_agent_that_ignores_the_end_is_killed() {
    let group = Group::new();
    let run = group.run(&group.claude("x", "lingers"));
    assert_eq!(run.answer(), "Reply to: x");
    eventually("rest", || group.heartbeat()["working"] == false);
    run.terminate();
    assert_eq!(run.exit().0, 130);
    assert!(group.processes().is_empty());
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
    run.terminate();
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
