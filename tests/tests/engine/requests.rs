//! What the agent's tools ask of the host arrives, and the answer goes back.

use drawbridge_testkit::launcher::answers;
use drawbridge_testkit::{Answer, Launcher, Model};
use serde_json::{Value, json};

use crate::{Setting, Test};

/// For agents with a shell tool and without tools of ours.
pub(crate) const BY_SHELL: &[Test] = &[("a_request_from_a_shell", a_request_from_a_shell)];
/// For agents with our tools.
pub(crate) const BY_TOOL: &[Test] = &[("a_message_and_a_question", a_message_and_a_question)];

fn requests(out: &str) -> Vec<Value> {
    let events = drawbridge_testkit::launcher::events(out);
    events
        .into_iter()
        .filter(|event| event["type"] == "request")
        .collect()
}

/// The agent is another user than the launcher, and can read its answer.
fn a_request_from_a_shell(setting: Setting) {
    const ASK: &str = r#"cd /workspace/ipc &&
        echo '{"type":"message","chatJid":"g@drawbridge","text":"half done"}' > messages/.tmp &&
        mv messages/.tmp messages/1.json &&
        for i in $(seq 300); do [ -f answers/1.json ] && break; sleep 0.1; done;
        cat answers/1.json"#;
    let tool = setting.agent.shell_tool();
    let model = Model::start(move |turn| {
        if turn.has_tool_result() {
            Answer::Text(format!("I was told {}", turn.news()))
        } else {
            Answer::bash(tool, ASK)
        }
    });
    let launcher = Launcher::new(setting.credential, &model);
    let args = [&setting.flags()[..], &["--group", "g", "--prompt", "go"]].concat();
    let mut run = launcher.start(&args);
    let asked = run.0.wait_for_out("the request", |out| requests(out).pop());
    assert_eq!(asked["request"]["text"], "half done");
    let answer = json!({"type": "answer", "id": asked["id"], "ok": true, "text": "thanks"});
    run.0.write(&format!("{answer}\n"));
    let told = run.wait_for_answers(1).remove(0);
    assert!(told.contains(r#"{"ok":true,"text":"thanks"}"#), "{told}");
    assert_eq!(run.finish().code, 0);
    launcher.assert_nothing_left();
}

fn a_message_and_a_question(setting: Setting) {
    let model = Model::start(|turn| {
        let news = turn.news();
        if news.contains("the blue one") {
            Answer::Text("blue it is".into())
        } else if turn.has_tool_result() {
            assert!(news.contains("Message sent."), "{news}");
            Answer::Tool {
                name: "mcp__nanoclaw__ask_user".into(),
                input: json!({"question": "Which one?", "options": ["red", "blue"]}),
            }
        } else {
            Answer::Tool {
                name: "mcp__nanoclaw__send_message".into(),
                input: json!({"text": "half done"}),
            }
        }
    });
    let launcher = Launcher::new(setting.credential, &model);
    let args = [&setting.flags()[..], &["--group", "g", "--prompt", "go"]].concat();
    let mut run = launcher.start(&args);
    for (count, name, reply) in [
        (1, "message", json!({"ok": true})),
        (2, "ask_user", json!({"ok": true, "text": "the blue one"})),
    ] {
        let asked = run.0.wait_for_out("the request", |out| {
            let all = requests(out);
            all.get(count - 1).cloned()
        });
        assert_eq!(asked["request"]["type"], name);
        let mut answer = reply;
        answer["type"] = "answer".into();
        answer["id"] = asked["id"].clone();
        run.0.write(&format!("{answer}\n"));
    }
    assert_eq!(run.wait_for_answers(1), ["blue it is"]);
    let ended = run.finish();
    assert_eq!(
        (ended.code, answers(&ended.out).len()),
        (0, 1),
        "{}",
        ended.err
    );
    launcher.assert_nothing_left();
}
