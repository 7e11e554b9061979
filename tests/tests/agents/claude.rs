//! What only Claude Code has: compaction with an archive, and versions with
//! habits of their own.

use drawbridge_testkit::launcher::{events, files_below};
use drawbridge_testkit::{Answer, Model};
use serde_json::json;

use crate::Test;
use crate::cli::{Setting, word};
use crate::suite;

pub(crate) const TESTS: &[Test] = &[
    suite::CHAT_TEXT,
    (
        "a_full_conversation_is_archived_and_compacted",
        a_full_conversation_is_archived_and_compacted,
    ),
    (
        "a_missing_session_is_begun_anew_in_the_same_run",
        a_missing_session_is_begun_anew_in_the_same_run,
    ),
    suite::SUBAGENT,
];

pub(crate) const OLDEST_TESTS: &[Test] = &[(
    "its_habit_with_chat_text_is_said",
    its_habit_with_chat_text_is_said,
)];

/// It is compacted before the turn that would not fit any more.
fn a_full_conversation_is_archived_and_compacted(setting: Setting) {
    let model = Model::start(|turn| match word(&turn.news()) {
        "apple" => Answer::Filling {
            text: "answer to apple".into(),
            input_tokens: 990_000,
        },
        word => Answer::Text(format!("answer to {word}")),
    });
    let launcher = setting.launcher(&model);
    let mut run = setting.start(&launcher, &["--group", "g", "--prompt", "apple"]);
    let _ = run.wait_for_answers(1);
    run.send("banana");
    assert_eq!(
        run.wait_for_answers(2),
        ["answer to apple", "answer to banana"]
    );
    let ended = run.finish();
    assert_eq!(ended.code, 0, "{}", ended.err);
    let is_compaction = |event: &serde_json::Value| event["progress"]["type"] == "compaction";
    assert!(events(&ended.out).iter().any(is_compaction));
    let archives = files_below(&launcher.group("g").join("workspace/conversations"));
    let [archive] = &archives[..] else {
        panic!("not one archive: {archives:?}")
    };
    let archive = std::fs::read_to_string(archive).unwrap();
    assert!(archive.contains("apple") && archive.contains("answer to apple"));
}

fn a_missing_session_is_begun_anew_in_the_same_run(setting: Setting) {
    let model = Model::start(|turn| Answer::Text(format!("answer to {}", word(&turn.news()))));
    let launcher = setting.launcher(&model);
    let run = |prompt| {
        let mut run = setting.start(&launcher, &["--group", "g", "--prompt", prompt]);
        run.0.close_stdin();
        let record = run.wait_for_event("the answer", |event| event["type"] == "result");
        let ended = run.0.wait();
        assert_eq!(ended.code, 0, "{}", ended.err);
        record
    };
    let before = run("apple");
    let projects = launcher.group("g").join("home/.claude/projects");
    std::fs::remove_dir_all(projects).unwrap();
    let after = run("banana");
    assert_eq!(after["result"], "answer to banana");
    assert_ne!(after["newSessionId"], before["newSessionId"]);
    let lost = before["newSessionId"].as_str().unwrap();
    let notice = after["notice"].as_str().unwrap_or_default();
    assert!(notice.contains(lost), "{after}");
    assert_eq!(run("cherry")["newSessionId"], after["newSessionId"]);
}

/// Before 2.1.248 nothing keeps it from taking chat text for its own commands.
fn its_habit_with_chat_text_is_said(setting: Setting) {
    let model = Model::start(|turn| Answer::Text(format!("answer to {}", word(&turn.news()))));
    let launcher = setting.launcher(&model);
    let mut run = setting.start(&launcher, &["--prompt", "apple"]);
    run.0.close_stdin();
    let record = run.wait_for_event("the answer", |event| event["type"] == "result");
    let ended = run.0.wait();
    assert_eq!(
        (ended.code, &record["result"]),
        (0, &json!("answer to apple"))
    );
    let version = setting.cli.version();
    let said = format!("Claude Code {version} takes `/command` and `@path`");
    let notice = record["notice"].as_str().unwrap_or_default();
    assert!(notice.contains(&said), "{record}");
}
