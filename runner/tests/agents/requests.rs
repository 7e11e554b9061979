//! What a host can ask for beside messages.

use std::fs;

use drawbridge_shared::protocol::{RecordKind, RecordStatus};
use serde_json::json;

use crate::harness::{Group, eventually};

crate::tests![
    an_interrupt_ends_the_turn_and_the_conversation_goes_on,
    an_interrupt_passes_the_messages_that_wait,
    a_cancelled_run_ends_without_an_error,
    another_model_answers_from_the_next_turn_on,
    compaction_archives_the_transcript_first,
    an_agent_that_cannot_compact_says_so,
    a_cleared_conversation_is_not_resumed,
    requests_from_before_the_run_are_dropped,
    an_attachment_is_named_to_the_agent,
];

fn an_interrupt_ends_the_turn_and_the_conversation_goes_on() {
    let group = Group::new();
    let run = group.run(&group.claude("one", "interruptible"));
    eventually("the message", || group.received() == ["one"]);
    group.input_file("1.json", &json!({ "type": "interrupt" }));
    let record = run.record();
    assert_eq!(
        (record.status, &record.result),
        (RecordStatus::Success, &None)
    );
    assert_eq!(record.details.kind, Some(RecordKind::Interrupted));
    group.message("two");
    assert_eq!(run.answer(), "Reply to: two");
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn an_interrupt_passes_the_messages_that_wait() {
    let group = Group::new();
    let run = group.run(&group.claude("one", "interruptible"));
    eventually("the message", || group.received() == ["one"]);
    for number in 0..100 {
        group.message(&number.to_string());
    }
    eventually("a full window", || group.input_files(".taken").len() == 63);
    group.input_file("9.json", &json!({ "type": "interrupt" }));
    assert_eq!(run.record().details.kind, Some(RecordKind::Interrupted));
    for number in 0..100 {
        assert_eq!(run.answer(), format!("Reply to: {number}"), "in order");
    }
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn a_cancelled_run_ends_without_an_error() {
    let group = Group::new();
    let run = group.run(&group.claude("one", "interruptible"));
    eventually("the message", || group.received() == ["one"]);
    group.input_file("1.json", &json!({ "type": "cancel" }));
    assert_eq!(run.record().details.kind, Some(RecordKind::Interrupted));
    group.message("for the next run");
    assert_eq!(run.exit().0, 0);
    assert_eq!(group.input_files("").len(), 1);
}

fn another_model_answers_from_the_next_turn_on() {
    let group = Group::new();
    let run = group.run(&group.claude("one", "flags"));
    assert!(!run.answer().contains("--model"));
    group.input_file("1.json", &json!({ "type": "set_model", "model": "other" }));
    group.message("two");
    let flags = run.answer();
    assert!(flags.lines().any(|flag| flag == "--model=other"), "{flags}");
    assert!(
        flags.contains("--resume="),
        "the same conversation: {flags}"
    );
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn compaction_archives_the_transcript_first() {
    let group = Group::new();
    let run = group.run(&group.claude("one", "compacts"));
    assert_eq!(run.answer(), "Reply to: one");
    group.input_file(
        "1.json",
        &json!({ "type": "compact", "instructions": "keep\nfacts" }),
    );
    assert_eq!(run.answer(), "did /compact keep facts");
    let archives: Vec<_> = fs::read_dir(group.path("workspace/conversations"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let [archive] = &archives[..] else {
        panic!("{archives:?}");
    };
    // `2026-11-21-conversation-1504.md`, as there is no title.
    let name = archive.file_name().unwrap().to_str().unwrap();
    let digits = name.replace(|c: char| c.is_ascii_digit(), "0");
    assert_eq!(digits, "0000-00-00-conversation-0000.md", "{name}");
    let text = fs::read_to_string(archive).unwrap();
    let (head, talk) = text.split_once("\n---\n").unwrap();
    assert_eq!(talk, "\n**User**: remember this\n");
    // `Archived: Nov 21, 3:04 PM`
    let archived = head.strip_prefix("# Conversation\n\nArchived: ").unwrap();
    let words: Vec<_> = archived.split_whitespace().collect();
    let [month, day, time, half] = words[..] else {
        panic!("{archived}");
    };
    assert!(month.len() == 3 && day.ends_with(','), "{archived}");
    assert!(
        time.contains(':') && matches!(half, "AM" | "PM"),
        "{archived}"
    );
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn an_agent_that_cannot_compact_says_so() {
    let group = Group::new();
    let run = group.run(&group.document("one", "command", &["cat"]));
    assert_eq!(run.answer(), "one");
    group.input_file("1.json", &json!({ "type": "compact" }));
    group.message("two");
    let record = run.record();
    let notice = record.details.notice.unwrap();
    assert_eq!(notice, "the command agent cannot compact its conversation");
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn a_cleared_conversation_is_not_resumed() {
    let group = Group::new();
    let run = group.run(&group.claude("one", "flags"));
    run.answer();
    // In this order: what comes before the request is for the old conversation.
    group.input_file("0.json", &json!({ "type": "set_model", "model": "m" }));
    group.input_file("00.json", &json!({ "type": "message", "text": "before" }));
    group.input_file("1.json", &json!({ "type": "clear" }));
    assert!(run.answer().contains("--resume="));
    let record = run.record();
    assert_eq!(record.details.kind, Some(RecordKind::Cleared));
    assert_eq!(record.new_session_id, None);
    group.message("two");
    assert!(!run.answer().contains("--resume="));
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn requests_from_before_the_run_are_dropped() {
    let group = Group::new();
    for (name, kind) in [
        ("1.json", "interrupt"),
        ("2.json", "cancel"),
        ("3.json", "clear"),
    ] {
        group.input_file(name, &json!({ "type": kind }));
    }
    let (record, exit) = group.run_once(&group.claude("one", "polite"));
    assert_eq!((record.result.as_deref(), exit), (Some("Reply to: one"), 0));
    assert_eq!(group.input_files(""), [""; 0]);
}

fn an_attachment_is_named_to_the_agent() {
    let group = Group::new();
    let file = group.path("workspace/photo.png");
    fs::write(&file, "x").unwrap();
    let run = group.run(&group.claude("one", "polite"));
    run.answer();
    let attachments = json!([
        { "path": "photo.png", "name": "Holiday" }, { "path": "../../etc/passwd" },
    ]);
    let message = json!({ "type": "message", "text": "look", "attachments": attachments });
    group.input_file("1.json", &message);
    let file = file.canonicalize().unwrap();
    let expected = format!(
        "Reply to: look\n[Attached file: Holiday, at {}]\n\
         [Attached file: ../../etc/passwd, not available: not found]",
        file.display()
    );
    assert_eq!(run.answer(), expected);
    group.close();
    assert_eq!(run.exit().0, 0);
}
