//! Messages and requests of the host, as files.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use drawbridge_shared::file::write_atomic;
use serde_json::json;

use crate::harness::{Group, eventually};

crate::tests![
    a_follow_up_reaches_the_running_conversation,
    what_waits_at_start_is_joined_to_the_prompt,
    what_is_too_much_for_one_prompt_follows_it,
    what_waits_when_close_comes_is_delivered_first,
    an_old_close_is_ignored,
    a_close_for_another_run_is_ignored,
    a_close_for_this_run_counts_whatever_its_age,
    an_unreadable_file_is_set_aside_and_the_next_one_is_read,
    an_unknown_type_is_set_aside,
    bursts_with_a_kill_in_the_middle_lose_nothing,
];

fn a_follow_up_reaches_the_running_conversation() {
    let group = Group::new();
    let run = group.run(&group.claude("one", "polite"));
    assert_eq!(run.answer(), "Reply to: one");
    for text in ["two", "three"] {
        group.message(text);
        assert_eq!(run.answer(), format!("Reply to: {text}"));
    }
    group.close();
    let (exit, stderr) = run.exit();
    assert_eq!(exit, 0);
    let is_ours = |line: &str| line.starts_with("[agent-runner] ");
    assert!(stderr.lines().all(is_ours), "{stderr}");
    assert_eq!(group.received(), ["one", "two", "three"]);
    assert_eq!(group.input_files(""), [""; 0]);
    assert_eq!(group.input_files(".taken"), [""; 0]);
}

fn what_waits_at_start_is_joined_to_the_prompt() {
    let group = Group::new();
    group.message("first");
    group.message("second");
    let (record, _) = group.run_once(&group.claude("prompt", "polite"));
    assert_eq!(
        record.result.as_deref(),
        Some("Reply to: prompt\nfirst\nsecond")
    );
    assert_eq!(group.input_files(".taken"), [""; 0]);
}

/// Eight megabytes are the bound. The interrupt is from before the run, whatever
/// waits before it.
fn what_is_too_much_for_one_prompt_follows_it() {
    const LENGTH: usize = 5 << 20;
    let group = Group::new();
    for _ in 0..3 {
        group.message(&"x".repeat(LENGTH));
    }
    group.input_file("9-interrupt.json", &json!({"type": "interrupt"}));
    let run = group.run(&group.document("p", "command", &["wc", "-c"]));
    assert_eq!(run.answer(), (1 + 2 * (1 + LENGTH)).to_string());
    assert_eq!(run.answer(), LENGTH.to_string());
    group.close();
    assert_eq!(run.exit().0, 0);
    assert_eq!(group.input_files(""), [""; 0]);
    assert_eq!(group.input_files(".taken"), [""; 0]);
}

fn what_waits_when_close_comes_is_delivered_first() {
    let group = Group::new();
    let run = group.run(&group.claude("p", "polite"));
    assert_eq!(run.answer(), "Reply to: p");
    for number in 0..100 {
        group.message(&number.to_string());
    }
    group.close();
    for number in 0..100 {
        assert_eq!(run.answer(), format!("Reply to: {number}"));
    }
    assert_eq!(run.exit().0, 0);
}

fn an_old_close_is_ignored() {
    let group = Group::new();
    group.close();
    age(&group, Duration::from_secs(5));
    let run = group.run(&group.claude("one", "polite"));
    assert_eq!(run.answer(), "Reply to: one");
    eventually("the removal of the old request", || {
        !group.path("ipc/input/_close").exists()
    });
    group.message("two");
    assert_eq!(run.answer(), "Reply to: two");
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn a_close_for_another_run_is_ignored() {
    let group = Group::new();
    let run = group.run(&group.claude("one", "polite"));
    assert_eq!(run.answer(), "Reply to: one");
    write_atomic(&group.path("ipc/input/_close"), b"run-ffffffffffffffff").unwrap();
    eventually("the removal of the request", || {
        !group.path("ipc/input/_close").exists()
    });
    group.message("two");
    assert_eq!(run.answer(), "Reply to: two");
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn a_close_for_this_run_counts_whatever_its_age() {
    let group = Group::new();
    fs::write(group.path("ipc/input/_close"), "run-0011223344556677").unwrap();
    age(&group, Duration::from_secs(5));
    let run = group.run(&group.claude("one", "polite"));
    assert_eq!(run.answer(), "Reply to: one");
    assert_eq!(run.exit().0, 0);
}

fn age(group: &Group, by: Duration) {
    let file = File::options()
        .write(true)
        .open(group.path("ipc/input/_close"))
        .unwrap();
    file.set_modified(SystemTime::now() - by).unwrap();
}

fn an_unreadable_file_is_set_aside_and_the_next_one_is_read() {
    let group = Group::new();
    let run = group.run(&group.claude("one", "polite"));
    assert_eq!(run.answer(), "Reply to: one");
    fs::write(group.path("ipc/input/1.json"), "{\"type\":\"mess").unwrap();
    eventually("setting the file aside", || {
        group.input_files(".rejected").len() == 2
    });
    group.message("two");
    assert_eq!(run.answer(), "Reply to: two");
    group.close();
    assert_eq!(run.exit().0, 0);
    let reason = fs::read_to_string(group.path("ipc/input/.rejected/1.json.reason")).unwrap();
    assert!(reason.contains("not a message"), "{reason}");
}

fn an_unknown_type_is_set_aside() {
    let group = Group::new();
    let run = group.run(&group.claude("one", "polite"));
    assert_eq!(run.answer(), "Reply to: one");
    group.input_file("1.json", &json!({ "type": "from_the_future", "x": 1 }));
    eventually("setting the file aside", || {
        group.input_files(".rejected").len() == 2
    });
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn bursts_with_a_kill_in_the_middle_lose_nothing() {
    let group = Group::new();
    let names: Vec<_> = (0..200).map(|number| format!("message {number}")).collect();
    for name in &names[..50] {
        group.message(name);
    }
    let run = group.run(&group.claude("first run", "polite"));
    run.record();
    let before_the_kill = group.received().len();
    for name in &names[50..130] {
        group.message(name);
    }
    eventually("some deliveries", || {
        group.received().len() > before_the_kill + 20
    });
    run.kill();
    for name in &names[130..160] {
        group.message(name);
    }
    let run = group.run(&group.claude("second run", "polite"));
    run.record();
    for name in &names[160..] {
        group.message(name);
        run.record();
    }
    let after_the_kill = group.received().len();
    group.close();
    assert_eq!(run.exit().0, 0);
    let received = group.received();
    assert_eq!(
        received.len(),
        after_the_kill,
        "nothing came twice at the end"
    );
    let texts: Vec<_> = received.iter().flat_map(|text| text.lines()).collect();
    for name in &names {
        let times = texts.iter().filter(|text| *text == name).count();
        assert!((1..=2).contains(&times), "{name} came {times} times");
    }
    // Nothing that was confirmed before the kill comes again, and nothing after it.
    for name in names[..50].iter().chain(&names[130..]) {
        assert_eq!(
            texts.iter().filter(|text| *text == name).count(),
            1,
            "{name}"
        );
    }
    assert_eq!(group.input_files(""), [""; 0]);
    assert_eq!(group.input_files(".taken"), [""; 0]);
}
