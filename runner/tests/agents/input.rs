//! Documents on standard input that cannot be used.

use std::path::Path;

use drawbridge_shared::ids::Nonce;
use drawbridge_shared::marker::Markers;
use drawbridge_shared::protocol::MAX_INPUT_BYTES;
use serde_json::json;

use crate::harness::{Group, Run, eventually};

crate::tests![
    what_is_not_a_document_is_an_error_record_and_exit_1,
    a_refusal_carries_the_markers_the_launcher_reads,
    an_unknown_agent_names_the_accepted_ones,
    a_scheduled_prompt_says_so,
    a_stop_before_the_document_ends_in_order,
    a_stop_in_the_first_moments_is_a_record_too,
];

fn what_is_not_a_document_is_an_error_record_and_exit_1() {
    let too_large = vec![b' '; MAX_INPUT_BYTES + 1];
    for (stdin, expected) in [
        (&b"{\"prompt"[..], "EOF while parsing"),
        (b"", "standard input is empty"),
        (b"  \n", "standard input is empty"),
        (b"[1]", "invalid"),
        (b"[]", "invalid"),
        (b"not json", "expected ident"),
        (b"{\"prompt\":\"x\"}", "missing field `groupFolder`"),
        (&too_large, "more than 33554432 bytes"),
    ] {
        let run = Run::start(stdin, &Markers::new(None), Path::new("/"));
        let error = run.error();
        assert!(error.starts_with("Failed to parse input: "), "{error}");
        assert!(error.contains(expected), "{error}");
        assert_eq!(run.exit().0, 1);
    }
}

fn a_refusal_carries_the_markers_the_launcher_reads() {
    let nonce: Nonce = "ab".repeat(16).parse().unwrap();
    let document = json!({ "prompt": 1, "drawbridge": { "nonce": nonce } });
    let markers = Markers::new(Some(&nonce));
    let run = Run::start(document.to_string().as_bytes(), &markers, Path::new("/"));
    assert!(run.error().contains("Failed to parse input: "));
    assert_eq!(run.exit().0, 1);
}

fn an_unknown_agent_names_the_accepted_ones() {
    let group = Group::new();
    let run = group.run(&group.document("hi", "gpt", &[]));
    let error = run.error();
    assert!(error.contains("unknown variant `gpt`"), "{error}");
    assert!(error.contains("claude"), "{error}");
    assert_eq!(run.exit().0, 1);
}

fn a_scheduled_prompt_says_so() {
    let group = Group::new();
    let mut document = group.document("water the plants", "command", &["cat"]);
    document["isScheduledTask"] = true.into();
    let (record, _) = group.run_once(&document);
    assert_eq!(
        record.result.unwrap(),
        "[SCHEDULED TASK - The following message was sent automatically and is not coming \
         directly from the user or group.]\n\nwater the plants"
    );
}

fn a_stop_before_the_document_ends_in_order() {
    let run = Run::waiting(Path::new("/"));
    eventually("the supervisor", || handles_sigterm(run.program.id()));
    run.terminate();
    assert!(run.error().contains("stopped"));
    assert_eq!(run.exit().0, 130);
}

/// Whether the child of the outer process handles the signal to stop.
fn handles_sigterm(outer: u32) -> bool {
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"));
    let supervisor = children.unwrap_or_default().trim().to_owned();
    catches_sigterm(&format!("/proc/{supervisor}/status"))
}

fn catches_sigterm(status: &str) -> bool {
    let status = std::fs::read_to_string(status).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << 14 != 0)
}

/// The inner process listens for signals later than the outer one, which holds
/// them back until then.
fn a_stop_in_the_first_moments_is_a_record_too() {
    for _ in 0..5 {
        let group = Group::new();
        let run = group.run(&group.claude("one", "polite"));
        let status = format!("/proc/{}/status", run.program.id());
        eventually("the outer process", || catches_sigterm(&status));
        run.terminate();
        let error = loop {
            let record = run.record();
            if let Some(error) = record.error {
                break error;
            }
        };
        assert_eq!(error, "the run was stopped");
        assert_eq!(run.exit().0, 130);
    }
}
