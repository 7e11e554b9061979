//! What opencode tells on its own server, beside its protocol, with a fake
//! that says it in the form recorded from opencode 1.18.33.

mod fake;

use drawbridge_shared::protocol::{ErrorKind, Progress, RecordKind};
use serde_json::{Value, json};

use crate::fake_rpc_agent::SESSION;
use crate::harness::Group;
pub(crate) use fake::fake_agent;

crate::tests![
    a_refused_key_is_told_by_its_server,
    a_model_that_always_breaks_off_fails_the_turn,
    one_that_does_not_stop_trying_is_ended,
    a_model_that_breaks_off_in_its_tool_calls_fails_the_turn,
    a_provider_that_counts_nothing_is_not_given_up,
    an_answer_that_broke_off_is_no_part_of_the_next_one,
    a_call_that_is_tried_again_is_told_and_can_be_interrupted,
    a_provider_that_wants_a_long_pause_is_reported,
    a_conversation_that_stays_too_long_fails_the_turn,
    one_that_dies_when_it_is_told_to_stop_has_failed_as_before,
    what_a_failed_try_has_said_is_no_part_of_the_answer,
    a_summary_is_no_part_of_the_answer,
    an_answer_that_was_cut_is_said_to_be,
    it_works_without_its_server,
];

fn document(group: &Group, scenario: &str) -> Value {
    let this = std::env::current_exe().unwrap();
    let scenario = format!("opencode-{scenario}");
    group.document(
        "one",
        "opencode",
        &[this.to_str().unwrap(), "fake-agent", &scenario],
    )
}

/// The turn fails, and the conversation goes on.
fn fails(scenario: &str, kind: ErrorKind, words: &str) -> Option<u64> {
    let group = Group::new();
    let run = group.run(&document(&group, scenario));
    let record = run.record();
    assert_eq!(record.details.error_kind, Some(kind), "{record:?}");
    let error = record.error.unwrap();
    assert!(error.contains(words), "{error}");
    group.message("two");
    let mut next = run.record();
    if next.details.kind == Some(RecordKind::SessionUpdate) {
        next = run.record();
    }
    assert_eq!(next.result.as_deref(), Some("Reply to: two"), "{next:?}");
    assert_eq!(next.new_session_id.as_deref(), Some(SESSION));
    group.close();
    run.exit();
    assert_eq!(group.received(), ["one", "two"]);
    record.details.retry_after_ms
}

fn a_refused_key_is_told_by_its_server() {
    fails("refused", ErrorKind::Auth, "invalid x-api-key");
}

fn a_model_that_always_breaks_off_fails_the_turn() {
    fails("breaks-off", ErrorKind::Overload, "broke off 10 times");
}

fn a_model_that_breaks_off_in_its_tool_calls_fails_the_turn() {
    fails(
        "breaks-off-in-tools",
        ErrorKind::Overload,
        "broke off 10 times",
    );
}

/// Its calls look broken, but tools run between them.
fn a_provider_that_counts_nothing_is_not_given_up() {
    interrupted_after_retries("counts-nothing", 1);
}

fn one_that_does_not_stop_trying_is_ended() {
    fails("deaf", ErrorKind::Overload, "broke off 10 times");
}

fn a_provider_that_wants_a_long_pause_is_reported() {
    let pause = fails("long-pause", ErrorKind::RateLimit, "Too Many Requests").unwrap();
    assert!((3_500_000..=3_600_000).contains(&pause), "{pause}");
}

fn a_conversation_that_stays_too_long_fails_the_turn() {
    fails("overflows", ErrorKind::Context, "prompt is too long");
}

fn one_that_dies_when_it_is_told_to_stop_has_failed_as_before() {
    fails("dies", ErrorKind::Overload, "broke off 10 times");
}

/// It says the whole answer in the same message.
fn what_a_failed_try_has_said_is_no_part_of_the_answer() {
    let group = Group::new();
    let mut document = document(&group, "tries-again");
    document["drawbridge"]["progress"] = true.into();
    let run = group.run(&document);
    let is_again = |progress: &Progress| matches!(progress, Progress::Retry { error } if error == "of a subagent");
    while !run
        .record()
        .details
        .progress
        .is_some_and(|it| is_again(&it))
    {}
    std::fs::write(group.path("workspace/go"), "").unwrap();
    assert_eq!(run.answer(), "Reply to: one");
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn a_summary_is_no_part_of_the_answer() {
    let group = Group::new();
    let (record, exit) = group.run_once(&document(&group, "sums-up"));
    let answer = record.result.unwrap();
    assert_eq!(answer, "the real answer\n\nReply to: one");
    assert_eq!(exit, 0);
}

fn an_answer_that_was_cut_is_said_to_be() {
    let group = Group::new();
    let run = group.run(&document(&group, "cut"));
    assert_eq!(run.answer(), "Reply to: one");
    group.close();
    let (_, log) = run.exit();
    assert!(log.contains("cut at the output limit"), "{log}");
}

fn an_answer_that_broke_off_is_no_part_of_the_next_one() {
    let group = Group::new();
    let (record, exit) = group.run_once(&document(&group, "recovers"));
    assert_eq!(record.result.as_deref(), Some("Reply to: one"));
    assert_eq!(exit, 0);
}

fn a_call_that_is_tried_again_is_told_and_can_be_interrupted() {
    interrupted_after_retries("two-tries", 2);
}

/// The tries are told, and whoever is interrupted meanwhile has not failed.
fn interrupted_after_retries(scenario: &str, tries: usize) {
    let group = Group::new();
    let mut document = document(&group, scenario);
    document["drawbridge"]["progress"] = true.into();
    let run = group.run(&document);
    let mut seen = 0;
    while seen < tries {
        match run.record().details.progress {
            Some(Progress::Retry { error }) if error == "Overloaded" => seen += 1,
            Some(_) => {}
            None => panic!("the turn has ended after {seen} tries"),
        }
    }
    group.input_file("1-interrupt.json", &json!({"type": "interrupt"}));
    assert_eq!(run.record().details.kind, Some(RecordKind::Interrupted));
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn it_works_without_its_server() {
    let group = Group::new();
    let run = group.run(&document(&group, "no-server"));
    assert_eq!(run.answer(), "Reply to: one");
    group.close();
    let (exit, log) = run.exit();
    assert_eq!(exit, 0);
    assert!(log.contains("does not report why calls fail"), "{log}");
}
