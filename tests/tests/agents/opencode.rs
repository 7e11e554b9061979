//! What only opencode has: a server of its own, and compaction after an answer.

use drawbridge_testkit::launcher::{answers, events};
use drawbridge_testkit::{Answer, Model};

use crate::Test;
use crate::cli::{Setting, word};
use crate::suite;

pub(crate) const TESTS: &[Test] = &[
    suite::CHAT_TEXT,
    suite::SUBAGENT,
    (
        "a_compaction_does_not_replace_the_answer",
        a_compaction_does_not_replace_the_answer,
    ),
    (
        "its_server_asks_for_a_password",
        its_server_asks_for_a_password,
    ),
];

/// Else everybody who reaches the port could have commands run.
fn its_server_asks_for_a_password(setting: Setting) {
    const ASK: &str = r#"
        port=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep -x -A1 '[-]-port' | tail -1)
        exec 3<>"/dev/tcp/127.0.0.1/$port"
        printf 'GET /session HTTP/1.0\r\n\r\n' >&3
        read -r line <&3
        echo "it said: $line"
    "#;
    let model = Model::start(move |turn| {
        if turn.has_tool_result() {
            let is_refused = turn.news().contains("it said: HTTP/1.1 401");
            return Answer::Text(format!("refused: {is_refused}"));
        }
        let command = format!("bash -c '{}'", ASK.replace('\'', r"'\''"));
        let call = setting.cli.shell(turn, &command);
        call.unwrap_or_else(|| Answer::Text("a title".into()))
    });
    let launcher = setting.launcher(&model);
    let ended = setting.run(&launcher, &["--prompt", "apple"]);
    assert_eq!(ended.out.trim_end(), "refused: true", "{}", ended.err);
}

/// It sums a full conversation up after the answer, and asks itself to go on.
fn a_compaction_does_not_replace_the_answer(setting: Setting) {
    let model = Model::start(|turn| {
        if turn.offered_tool("bash").is_none() {
            return Answer::Text("a summary".into());
        }
        match word(&turn.news()) {
            "apple" => Answer::Filling {
                text: "answer to apple".into(),
                input_tokens: 190_000,
            },
            _ => Answer::Text("nothing more to do".into()),
        }
    });
    let launcher = setting.launcher(&model);
    let run = setting.start(&launcher, &["--prompt", "apple"]);
    let _ = run.wait_for_answers(1);
    let ended = run.finish();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(
        answers(&ended.out),
        ["answer to apple\n\nnothing more to do"]
    );
    let is_compaction = |event: &serde_json::Value| event["progress"]["type"] == "compaction";
    assert!(events(&ended.out).iter().any(is_compaction));
}
