//! Records, progress and the heartbeat.

use drawbridge_shared::protocol::{
    AgentKind, ErrorKind, Progress, RecordKind, RecordStatus, Usage,
};
use serde_json::Value;

use crate::harness::{Group, eventually};

crate::tests![
    an_answer_says_what_it_cost,
    an_error_says_of_what_kind,
    an_old_host_gets_nanoclaws_fields_only,
    progress_is_reported_when_asked_for,
    no_progress_is_reported_otherwise,
    the_heartbeat_knows_the_tool_in_flight,
    a_stuck_agent_is_interrupted_and_then_ended,
    a_script_that_says_no_is_a_silent_success,
    a_script_that_fails_is_an_error,
    a_close_in_a_turn_is_followed_by_its_answer_only,
    no_prompt_is_left_on_disk,
];

fn an_answer_says_what_it_cost() {
    let group = Group::new();
    let (record, _) = group.run_once(&group.claude("x", "polite"));
    let details = record.details;
    assert_eq!(details.kind, Some(RecordKind::Answer));
    assert_eq!(details.agent, Some(AgentKind::Claude));
    assert_eq!(details.agent_version.as_deref(), Some("2.1.329"));
    assert_eq!(details.cost_usd, Some(0.5));
    assert_eq!(details.turns, Some(1));
    assert!(details.duration_ms.is_some());
    let usage = Usage {
        input_tokens: 10,
        output_tokens: 5,
        cache_read_tokens: 3,
        cache_write_tokens: 0,
    };
    assert_eq!(details.usage, Some(usage));
}

fn an_error_says_of_what_kind() {
    for (scenario, kind) in [
        ("api-error", ErrorKind::Auth),
        ("start-failure", ErrorKind::StartUp),
        ("crash", ErrorKind::Crash),
    ] {
        let group = Group::new();
        let run = group.run(&group.claude("x", scenario));
        let record = run.record();
        assert_eq!(record.details.error_kind, Some(kind), "{scenario}");
        group.close();
        assert_eq!(run.exit().0, 1);
    }
}

fn an_old_host_gets_nanoclaws_fields_only() {
    let group = Group::new();
    let document = serde_json::json!({
        "prompt": "x", "groupFolder": "main", "chatJid": "1@g.us", "isMain": true,
    });
    // There are no such folders here, so it is an error record; its fields are
    // what counts.
    let output = group.raw_output(&document);
    let line = output.lines().find(|line| line.starts_with('{')).unwrap();
    let record: Value = serde_json::from_str(line).unwrap();
    let names: Vec<_> = record.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["error", "result", "status"]);
    let markers: Vec<_> = output
        .lines()
        .filter(|line| line.starts_with("---"))
        .collect();
    assert_eq!(
        markers,
        ["---NANOCLAW_OUTPUT_START---", "---NANOCLAW_OUTPUT_END---"]
    );
}

fn progress_is_reported_when_asked_for() {
    let group = Group::new();
    let mut document = group.claude("x", "busy");
    document["drawbridge"]["progress"] = true.into();
    let run = group.run(&document);
    let mut seen = Vec::new();
    let answer = loop {
        let record = run.record();
        if record.details.kind != Some(RecordKind::Progress) {
            break record;
        }
        assert_eq!(
            (record.status, &record.result),
            (RecordStatus::Success, &None)
        );
        // Before the agent starts there is no conversation.
        assert_eq!(record.new_session_id.is_some(), !seen.is_empty());
        seen.push(record.details.progress.unwrap());
        if seen.len() == 4 {
            group.message("go on");
        }
    };
    assert_eq!(answer.result.as_deref(), Some("done"));
    let expected = [
        Progress::Started,
        Progress::Session,
        Progress::Text {
            text: "let me see".into(),
        },
        Progress::ToolStart {
            id: "t1".into(),
            name: "Bash".into(),
        },
        Progress::ToolEnd { id: "t1".into() },
        Progress::Retry {
            error: "overloaded, attempt 1".into(),
        },
        Progress::Compaction,
    ];
    assert_eq!(seen, expected);
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn no_progress_is_reported_otherwise() {
    let group = Group::new();
    let run = group.run(&group.claude("x", "busy"));
    eventually("the message", || group.received() == ["x"]);
    group.message("go on");
    assert_eq!(run.answer(), "done");
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn the_heartbeat_knows_the_tool_in_flight() {
    let group = Group::new();
    let run = group.run(&group.claude("x", "busy"));
    let read = || group.heartbeat();
    eventually("the tool in the heartbeat", || {
        read()["tool"]["name"] == "Bash"
    });
    let heartbeat = read();
    assert_eq!(heartbeat["working"], true);
    assert_eq!(heartbeat["tool"]["limitMs"], 5000);
    group.message("go on");
    assert_eq!(run.answer(), "done");
    eventually("rest in the heartbeat", || read()["working"] == false);
    assert_eq!(read()["tool"], Value::Null);
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn a_stuck_agent_is_interrupted_and_then_ended() {
    let group = Group::new();
    let mut document = group.claude("x", "interruptible");
    document["drawbridge"]["stuckAfterSeconds"] = 1.into();
    let run = group.run(&document);
    let record = run.record();
    assert_eq!(record.details.kind, Some(RecordKind::Interrupted));
    group.message("again");
    assert_eq!(run.answer(), "Reply to: again");
    group.close();
    assert_eq!(run.exit().0, 0);
    // One that does not even react to that.
    let group = Group::new();
    let mut document = group.claude("x", "stuck");
    document["drawbridge"]["stuckAfterSeconds"] = 1.into();
    let run = group.run(&document);
    let record = run.record();
    assert_eq!(record.details.error_kind, Some(ErrorKind::Timeout));
    assert!(record.error.unwrap().contains("no sign of life"));
    assert_eq!(run.exit().0, 1);
}

fn a_script_that_says_no_is_a_silent_success() {
    let group = Group::new();
    let mut document = group.claude("x", "polite");
    document["isScheduledTask"] = true.into();
    document["script"] = "echo '{\"wakeAgent\": false}'".into();
    group.message("waits");
    let run = group.run(&document);
    let record = run.record();
    assert_eq!(
        (record.status, &record.result),
        (RecordStatus::Success, &None)
    );
    assert_eq!(record.details.kind, Some(RecordKind::Skipped));
    assert_eq!(run.exit().0, 0);
    assert!(group.received().is_empty());
    assert_eq!(group.input_files("").len(), 1, "what waits is not lost");
    document["script"] = "echo '{\"wakeAgent\": true, \"data\": {\"n\": 1}}'".into();
    let (record, _) = group.run_once(&document);
    let text = record.result.unwrap();
    assert!(text.starts_with("Reply to: [SCHEDULED TASK]"), "{text}");
    assert!(text.ends_with("x\nwaits"), "{text}");
}

fn a_script_that_fails_is_an_error() {
    for (script, words) in [
        (
            "echo broken >&2; echo '[host] forged' >&2; exit 7",
            "exit code 7: broken",
        ),
        ("true", "wrote nothing"),
        ("echo yes", "not JSON with a boolean"),
        ("echo '{\"data\": 1}'", "not JSON with a boolean"),
        ("echo '{\"wakeAgent\": 1}'", "not JSON with a boolean"),
        ("head -c 2000000 /dev/zero", "more than 1048576 bytes"),
    ] {
        let group = Group::new();
        group.message("waits");
        let mut document = group.claude("x", "polite");
        document["isScheduledTask"] = true.into();
        document["script"] = script.into();
        let run = group.run(&document);
        let error = run.error();
        assert!(error.contains(words), "{script}: {error}");
        let (exit, stderr) = run.exit();
        assert_eq!(exit, 1);
        for line in stderr.lines() {
            assert!(line.starts_with("[agent-runner] "), "{stderr}");
        }
        assert!(group.received().is_empty(), "no model is called");
        assert_eq!(group.input_files("").len(), 1, "what waits is not lost");
    }
}

/// Another record would restart the host's idle clock.
fn a_close_in_a_turn_is_followed_by_its_answer_only() {
    let group = Group::new();
    let script = "cat; touch began; while ! [ -e go ]; do sleep 0.02; done";
    let run = group.run(&group.document("one", "command", &["sh", "-c", script]));
    eventually("the turn", || group.path("workspace/began").exists());
    group.close();
    eventually("the request to close to be taken", || {
        !group.path("ipc/input/_close").exists()
    });
    std::fs::write(group.path("workspace/go"), "").unwrap();
    assert_eq!(run.answer(), "one");
    // It also says that no further record came.
    assert_eq!(run.exit().0, 0);
}

/// Neither while the agent works nor after that, wherever temporary files go.
fn no_prompt_is_left_on_disk() {
    const SECRET: &str = "the prompt 4711";
    let group = Group::new();
    std::fs::create_dir(group.path("tmp")).unwrap();
    let script = "cat > /dev/null; touch began; while ! [ -e go ]; do sleep 0.02; done";
    let document = group.document(SECRET, "command", &["sh", "-c", script]);
    let run = group.run_with(&document, &[("TMPDIR", &group.path("tmp"))]);
    eventually("the turn", || group.path("workspace/began").exists());
    let is_clean = || {
        let found = files_with(&group.path(""), SECRET.as_bytes());
        assert_eq!(found, [""; 0].map(std::path::PathBuf::from));
        // NanoClaw's own place for it.
        let input = std::fs::read("/tmp/input.json").unwrap_or_default();
        assert!(!String::from_utf8_lossy(&input).contains(SECRET));
    };
    is_clean();
    std::fs::write(group.path("workspace/go"), "").unwrap();
    run.record();
    group.close();
    assert_eq!(run.exit().0, 0);
    is_clean();
}

fn files_with(folder: &std::path::Path, text: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if memchr::memmem::find(&std::fs::read(&path).unwrap_or_default(), text).is_some() {
            found.push(path);
        }
    }
    found
}
