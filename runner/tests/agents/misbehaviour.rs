//! One suite of misbehaviour for the agents of every protocol.

use drawbridge_shared::protocol::{ErrorKind, RecordKind};
use serde_json::Value;

use crate::harness::{Group, Run, eventually};

crate::tests![
    a_lost_conversation_is_restarted_in_the_same_run,
    a_failed_start_says_why,
    a_crash_shows_the_last_lines,
    every_request_of_the_agent_is_answered,
    a_flood_does_not_drown_the_answer,
    a_grandchild_that_holds_the_pipe_does_not_hold_the_run,
    noise_does_not_drown_the_answer,
    what_a_dead_agent_left_behind_does_not_hold_the_run,
    an_end_in_the_middle_is_an_error_with_the_last_words,
    silence_is_ended_and_said,
    silence_at_the_start_is_ended_too,
    a_command_is_taken_at_its_output,
    a_result_out_of_turn_is_survived,
    a_program_that_only_exits_takes_no_message,
    a_last_word_need_not_be_followed_by_rest,
    an_agent_that_works_on_after_the_close_is_watched,
    a_hook_about_a_pipe_is_answered,
];

const PROTOCOLS: [&str; 4] = ["claude", "codex", "acp", "command"];
/// Those with conversations.
const TALKING: [&str; 3] = ["claude", "codex", "acp"];

fn document(group: &Group, protocol: &str, scenario: &str) -> Value {
    let this = std::env::current_exe().unwrap();
    let scenario = match protocol {
        "claude" => scenario.to_owned(),
        protocol => format!("{protocol}-{scenario}"),
    };
    let command = [this.to_str().unwrap(), "fake-agent", &scenario];
    group.document("one", protocol, &command)
}

fn start(group: &Group, protocol: &str, scenario: &str) -> Run {
    group.run(&document(group, protocol, scenario))
}

fn a_lost_conversation_is_restarted_in_the_same_run() {
    for (protocol, scenario, session) in [
        ("claude", "no-such-session", crate::fake_claude::SESSION),
        ("codex", "forgetful", crate::fake_rpc_agent::SESSION),
        ("acp", "forgetful", crate::fake_rpc_agent::SESSION),
    ] {
        let group = Group::new();
        let mut document = document(&group, protocol, scenario);
        document["sessionId"] = "00000000-0000-4000-8000-000000000000".into();
        let run = group.run(&document);
        let record = run.record();
        assert_eq!(record.result.as_deref(), Some("Reply to: one"));
        let notice = record.details.notice.unwrap();
        assert!(notice.contains("00000000-0000-4000"), "{notice}");
        assert!(notice.contains("is lost"), "{notice}");
        assert_eq!(record.new_session_id.as_deref(), Some(session));
        group.close();
        let (exit, stderr) = run.exit();
        assert_eq!(exit, 0);
        assert!(stderr.contains("a new one was started"), "{stderr}");
    }
}

fn a_failed_start_says_why() {
    for (protocol, scenario, reason) in [
        ("claude", "start-failure", "bypass_root"),
        ("codex", "dies", "no licence"),
        ("acp", "dies", "no licence"),
    ] {
        let group = Group::new();
        let run = start(&group, protocol, scenario);
        let record = run.record();
        assert_eq!(record.details.error_kind, Some(ErrorKind::StartUp));
        let error = record.error.unwrap();
        assert!(
            error.contains(reason) && (protocol != "claude" || error == reason),
            "{error}"
        );
        assert_eq!(record.new_session_id, None, "{protocol}");
        assert_eq!(run.exit().0, 1, "{protocol}");
    }
}

fn a_crash_shows_the_last_lines() {
    for (protocol, exit_code, end_of_error) in [
        (
            "claude",
            "Claude Code ended with exit code 42: ",
            "trace line 9999",
        ),
        ("codex", " ended with exit code 9: ", "out of memory"),
        ("acp", " ended with exit code 9: ", "out of memory"),
    ] {
        let group = Group::new();
        group.message("kept");
        let run = start(&group, protocol, "crash");
        let record = run.record();
        assert_eq!(record.details.error_kind, Some(ErrorKind::Crash));
        let error = record.error.unwrap();
        assert!(error.contains(exit_code), "{error}");
        assert!(error.ends_with(end_of_error), "{error}");
        assert!(error.len() < 5000);
        assert_eq!(run.exit().0, 1);
        if protocol == "claude" {
            // It has not acknowledged the message.
            assert_eq!(group.input_files(".taken").len(), 1);
        }
    }
}

fn every_request_of_the_agent_is_answered() {
    for (protocol, answer) in [
        ("claude", "success error error"),
        // These check the answers themselves.
        ("codex", "Reply to: one"),
        ("acp", "Reply to: one"),
    ] {
        let group = Group::new();
        let (record, exit) = group.run_once(&document(&group, protocol, "asks"));
        assert_eq!((record.result.as_deref(), exit), (Some(answer), 0));
    }
}

fn a_flood_does_not_drown_the_answer() {
    for protocol in TALKING {
        let group = Group::new();
        let (record, exit) = group.run_once(&document(&group, protocol, "flood"));
        assert_eq!(record.result.as_deref(), Some("Reply to: one"));
        assert_eq!(exit, 0, "{protocol}");
    }
}

fn a_grandchild_that_holds_the_pipe_does_not_hold_the_run() {
    for protocol in TALKING {
        let group = Group::new();
        let run = start(&group, protocol, "grandchild");
        assert_eq!(run.answer(), "Reply to: one", "{protocol}");
        if protocol == "claude" {
            assert_eq!(run.record().result, None, "the session update");
        }
        group.close();
        assert_eq!(run.exit().0, 0, "{protocol}");
        eventually("the grandchild's end", || group.processes().is_empty());
    }
}

fn noise_does_not_drown_the_answer() {
    for protocol in PROTOCOLS {
        for kind in ["flood", "invalid-utf8", "long-line"] {
            if (protocol, kind) == ("command", "long-line") {
                continue;
            }
            let group = Group::new();
            let run = start(&group, protocol, &format!("noise-{kind}"));
            let answer = run.answer();
            // All that a command prints is its answer.
            assert!(
                answer == "Reply to: one" || protocol == "command",
                "{protocol} {kind}"
            );
            assert!(answer.ends_with("Reply to: one"), "{protocol} {kind}");
            group.close();
            assert_eq!(run.exit().0, 0, "{protocol} {kind}");
            assert_eq!(group.input_files(".taken"), [""; 0]);
        }
    }
}

fn what_a_dead_agent_left_behind_does_not_hold_the_run() {
    for protocol in TALKING {
        let group = Group::new();
        let run = start(&group, protocol, "noise-flooding-grandchild");
        assert_eq!(run.answer(), "Reply to: one", "{protocol}");
        group.close();
        assert_eq!(run.exit().0, 0, "{protocol}");
    }
    let group = Group::new();
    let run = start(&group, "command", "noise-flooding-grandchild");
    let record = run.record();
    // What comes meanwhile is its answer, or too much of it.
    assert!(record.result.is_some() != record.error.is_some());
    group.close();
    assert_eq!(run.exit().0, i32::from(record.error.is_some()));
}

fn an_end_in_the_middle_is_an_error_with_the_last_words() {
    for (protocol, kind) in [
        ("claude", "half-line"),
        ("codex", "half-line"),
        ("acp", "half-line"),
        ("command", "half-line"),
        ("codex", "leaves"),
        ("acp", "leaves"),
    ] {
        let group = Group::new();
        let run = start(&group, protocol, &format!("noise-{kind}"));
        let record = run.record();
        let error = record.error.unwrap();
        assert!(error.ends_with("last words"), "{protocol} {kind}: {error}");
        assert_eq!(record.details.error_kind, Some(ErrorKind::Crash));
        group.close();
        assert_eq!(run.exit().0, 1, "{protocol} {kind}");
    }
}

fn silence_is_ended_and_said() {
    for protocol in PROTOCOLS {
        let group = Group::new();
        let mut document = document(&group, protocol, "noise-silence");
        document["drawbridge"]["stuckAfterSeconds"] = 1.into();
        let run = group.run(&document);
        let record = run.record();
        assert_eq!(
            record.details.error_kind,
            Some(ErrorKind::Timeout),
            "{protocol}"
        );
        assert_eq!(run.exit().0, 1, "{protocol}");
    }
}

fn silence_at_the_start_is_ended_too() {
    for protocol in TALKING {
        let group = Group::new();
        group.message("waits");
        let mut document = document(&group, protocol, "silent-start");
        document["drawbridge"]["stuckAfterSeconds"] = 1.into();
        let run = group.run(&document);
        let record = run.record();
        assert_eq!(
            record.details.error_kind,
            Some(ErrorKind::Timeout),
            "{protocol}"
        );
        assert_eq!(run.exit().0, 1, "{protocol}");
        assert_eq!(group.input_files(".taken").len(), 1, "{protocol}");
    }
}

fn a_command_is_taken_at_its_output() {
    let group = Group::new();
    let run = start(&group, "command", "noise-leaves");
    assert_eq!(run.record().result, None, "no output is no answer");
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn a_result_out_of_turn_is_survived() {
    for protocol in TALKING {
        let group = Group::new();
        let run = start(&group, protocol, "result-first");
        if protocol == "claude" {
            assert_eq!(run.answer(), "too early");
        }
        assert_eq!(run.answer(), "Reply to: one", "{protocol}");
        group.close();
        assert_eq!(run.exit().0, 0, "{protocol}");
    }
}

fn a_program_that_only_exits_takes_no_message() {
    let group = Group::new();
    group.message("kept");
    let run = group.run(&group.document("one", "claude", &["true"]));
    assert!(run.error().contains("without taking its messages"));
    assert_eq!(run.exit().0, 1);
    assert_eq!(group.input_files(".taken").len(), 1);
}

fn a_last_word_need_not_be_followed_by_rest() {
    let group = Group::new();
    let run = start(&group, "claude", "last-word");
    assert_eq!(run.answer(), "Reply to: one");
    let update = run.record();
    assert_eq!(update.details.kind, Some(RecordKind::SessionUpdate));
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn an_agent_that_works_on_after_the_close_is_watched() {
    let group = Group::new();
    let mut document = document(&group, "claude", "works-on");
    document["drawbridge"]["stuckAfterSeconds"] = 1.into();
    let run = group.run(&document);
    assert_eq!(run.answer(), "Reply to: one");
    eventually("rest", || group.heartbeat()["working"] == false);
    group.close();
    assert!(run.error().contains("no sign of life"));
    assert_eq!(run.exit().0, 1);
}

fn a_hook_about_a_pipe_is_answered() {
    let group = Group::new();
    let run = start(&group, "claude", "compacts-a-pipe");
    assert_eq!(run.answer(), "Reply to: one");
    group.input_file("1.json", &serde_json::json!({ "type": "compact" }));
    assert_eq!(run.answer(), "did /compact");
    group.close();
    let (exit, stderr) = run.exit();
    assert_eq!(exit, 0);
    assert!(stderr.contains("not a regular file"), "{stderr}");
}
