//! The tools of the container and of the host, called by the model.

use drawbridge_testkit::{Answer, Model};
use serde_json::{Value, json};

use crate::Test;
use crate::cli::Setting;

pub(crate) const TESTS: &[Test] = &[
    ("a_shell_command_runs", a_shell_command_runs),
    (
        "send_message_reaches_the_host",
        send_message_reaches_the_host,
    ),
    (
        "schedule_task_reaches_the_host",
        schedule_task_reaches_the_host,
    ),
];

fn a_shell_command_runs(setting: Setting) {
    let model = Model::start(move |turn| {
        if turn.has_tool_result() {
            let is_done = turn.news().contains("tool-42");
            return Answer::Text(format!("the tool ran: {is_done}"));
        }
        // Gemini CLI refuses `$(`.
        let call = setting
            .cli
            .shell(turn, r"expr 6 \* 7 | sed s/^/tool-/ | tee made-by-tool");
        call.unwrap_or_else(|| Answer::Text("a title".into()))
    });
    let launcher = setting.launcher(&model);
    let ended = setting.run(&launcher, &["--group", "g", "--prompt", "apple"]);
    assert_eq!(ended.out.trim_end(), "the tool ran: true", "{}", ended.err);
    let made = std::fs::read_to_string(launcher.group("g").join("workspace/made-by-tool"));
    assert_eq!(made.unwrap(), "tool-42\n");
    setting.assert_injected(&model);
}

fn send_message_reaches_the_host(setting: Setting) {
    let input = json!({ "text": "a word to the user", "sender": "Researcher" });
    let request = calls(setting, "send_message", input);
    for (field, value) in [
        ("type", "message"),
        ("text", "a word to the user"),
        ("sender", "Researcher"),
        ("chatJid", "g@drawbridge"),
    ] {
        assert_eq!(request[field], value, "{request}");
    }
}

fn schedule_task_reaches_the_host(setting: Setting) {
    let input = json!({
        "prompt": "water the plants", "schedule_type": "cron", "schedule_value": "0 9 * * 1",
        "context_mode": "isolated",
    });
    let request = calls(setting, "schedule_task", input);
    for (field, value) in [
        ("type", "schedule_task"),
        ("prompt", "water the plants"),
        ("schedule_type", "cron"),
        ("schedule_value", "0 9 * * 1"),
        ("context_mode", "isolated"),
        ("targetJid", "g@drawbridge"),
    ] {
        assert_eq!(request[field], value, "{request}");
    }
}

/// A run whose model calls a tool of the host. The host's own words reach the
/// model; returned is what the host was asked.
fn calls(setting: Setting, tool: &'static str, input: Value) -> Value {
    let model = Model::start(move |turn| {
        if turn.has_tool_result() {
            let has_heard = turn.news().contains("gladly-4711");
            return Answer::Text(format!("heard the host: {has_heard}"));
        }
        let call = setting.cli.host_tool(turn, tool, &input);
        call.unwrap_or_else(|| Answer::Text("a title".into()))
    });
    let launcher = setting.launcher(&model);
    let mut run = setting.start(&launcher, &["--group", "g", "--prompt", "apple"]);
    let asked = run.wait_for_event("the request", |event| event["type"] == "request");
    let answer = json!({ "type": "answer", "id": asked["id"], "ok": true, "text": "gladly-4711" });
    run.0.write(&format!("{answer}\n"));
    assert_eq!(run.wait_for_answers(1), ["heard the host: true"]);
    let ended = run.finish();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(asked["group"], "g");
    asked["request"].clone()
}
