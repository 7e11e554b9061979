//! The tools of the container and of the host, called by the model.

use drawbridge_tests::launcher::files_below;
use drawbridge_tests::{Answer, Launcher, Model};
use serde_json::{Value, json};

use crate::Test;
use crate::cli::Setting;

pub(crate) const TESTS: &[Test] = &[
    ("a_shell_command_runs", a_shell_command_runs),
    ("send_message_is_queued", send_message_is_queued),
    ("schedule_task_is_queued", schedule_task_is_queued),
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

fn send_message_is_queued(setting: Setting) {
    let input = json!({ "text": "a word to the user", "sender": "Researcher" });
    let launcher = calls(setting, "send_message", input);
    let request = the_request(&launcher, "messages");
    for (field, value) in [
        ("type", "message"),
        ("text", "a word to the user"),
        ("sender", "Researcher"),
        ("chatJid", "g@drawbridge"),
        ("groupFolder", "g"),
    ] {
        assert_eq!(request[field], value, "{request}");
    }
}

fn schedule_task_is_queued(setting: Setting) {
    let input = json!({
        "prompt": "water the plants", "schedule_type": "cron", "schedule_value": "0 9 * * 1",
        "context_mode": "isolated",
    });
    let launcher = calls(setting, "schedule_task", input);
    let request = the_request(&launcher, "tasks");
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

/// A run whose model calls a tool of the host, and tells what it was answered.
fn calls(setting: Setting, tool: &'static str, input: Value) -> Launcher {
    let model = Model::start(move |turn| {
        if turn.has_tool_result() {
            return Answer::Text(format!("told: {}", turn.news()));
        }
        let call = setting.cli.host_tool(turn, tool, &input);
        call.unwrap_or_else(|| Answer::Text("a title".into()))
    });
    let launcher = setting.launcher(&model);
    let ended = setting.run(&launcher, &["--group", "g", "--prompt", "apple"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    // Nobody answers for the host here, so nothing was sent yet.
    assert!(ended.out.contains("Queued for the host"), "{}", ended.out);
    launcher
}

/// The one request file in a folder of the group's IPC.
fn the_request(launcher: &Launcher, folder: &str) -> Value {
    let files = files_below(&launcher.group("g").join("ipc").join(folder));
    let [file] = &files[..] else {
        panic!("not one request: {files:?}")
    };
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}
