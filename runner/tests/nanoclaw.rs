//! NanoClaw's documents and files, byte for byte: what its host writes is read,
//! and what its tools write is written.

#![expect(
    clippy::unwrap_used,
    reason = "clippy does not see that helpers of tests are tests"
)]

use std::fs;
use std::process::Command;

use drawbridge_testkit::runner::Group;
use drawbridge_testkit::{Program, nanoclaw};
use serde_json::{Value, json};

/// Each tool: its arguments, the folder, and the file, in which `ID` and `TIME`
/// stand for what differs from call to call.
const TOOLS: &[(&str, &str, &str, &str)] = &[
    (
        "send_message",
        r#"{"text":"Hi \"you\"\n👋","sender":"Researcher"}"#,
        "messages",
        "{\n  \"type\": \"message\",\n  \"chatJid\": \"1@g.us\",\n  \"text\": \"Hi \\\"you\\\"\\n👋\",\n  \"sender\": \"Researcher\",\n  \"groupFolder\": \"main\",\n  \"timestamp\": \"TIME\"\n}",
    ),
    (
        "send_message",
        r#"{"text":"plain"}"#,
        "messages",
        "{\n  \"type\": \"message\",\n  \"chatJid\": \"1@g.us\",\n  \"text\": \"plain\",\n  \"groupFolder\": \"main\",\n  \"timestamp\": \"TIME\"\n}",
    ),
    (
        "schedule_task",
        r#"{"prompt":"water","schedule_type":"cron","schedule_value":"0 9 * * *"}"#,
        "tasks",
        "{\n  \"type\": \"schedule_task\",\n  \"taskId\": \"ID\",\n  \"prompt\": \"water\",\n  \"schedule_type\": \"cron\",\n  \"schedule_value\": \"0 9 * * *\",\n  \"context_mode\": \"group\",\n  \"targetJid\": \"1@g.us\",\n  \"createdBy\": \"main\",\n  \"timestamp\": \"TIME\"\n}",
    ),
    (
        "schedule_task",
        r#"{"prompt":"look","schedule_type":"interval","schedule_value":"300000","context_mode":"isolated","target_group_jid":"2@g.us","script":"exit 0"}"#,
        "tasks",
        "{\n  \"type\": \"schedule_task\",\n  \"taskId\": \"ID\",\n  \"prompt\": \"look\",\n  \"script\": \"exit 0\",\n  \"schedule_type\": \"interval\",\n  \"schedule_value\": \"300000\",\n  \"context_mode\": \"isolated\",\n  \"targetJid\": \"2@g.us\",\n  \"createdBy\": \"main\",\n  \"timestamp\": \"TIME\"\n}",
    ),
    (
        "pause_task",
        r#"{"task_id":"task-1"}"#,
        "tasks",
        "{\n  \"type\": \"pause_task\",\n  \"taskId\": \"task-1\",\n  \"groupFolder\": \"main\",\n  \"isMain\": true,\n  \"timestamp\": \"TIME\"\n}",
    ),
    (
        "resume_task",
        r#"{"task_id":"task-1"}"#,
        "tasks",
        "{\n  \"type\": \"resume_task\",\n  \"taskId\": \"task-1\",\n  \"groupFolder\": \"main\",\n  \"isMain\": true,\n  \"timestamp\": \"TIME\"\n}",
    ),
    (
        "cancel_task",
        r#"{"task_id":"task-1"}"#,
        "tasks",
        "{\n  \"type\": \"cancel_task\",\n  \"taskId\": \"task-1\",\n  \"groupFolder\": \"main\",\n  \"isMain\": true,\n  \"timestamp\": \"TIME\"\n}",
    ),
    (
        "update_task",
        r#"{"task_id":"task-1","prompt":"new","schedule_type":"once","schedule_value":"2026-12-01T09:00:00"}"#,
        "tasks",
        "{\n  \"type\": \"update_task\",\n  \"taskId\": \"task-1\",\n  \"groupFolder\": \"main\",\n  \"isMain\": true,\n  \"timestamp\": \"TIME\",\n  \"prompt\": \"new\",\n  \"schedule_type\": \"once\",\n  \"schedule_value\": \"2026-12-01T09:00:00\"\n}",
    ),
    (
        "register_group",
        r#"{"jid":"3@g.us","name":"Three","folder":"three","trigger":"@Andy"}"#,
        "tasks",
        "{\n  \"type\": \"register_group\",\n  \"jid\": \"3@g.us\",\n  \"name\": \"Three\",\n  \"folder\": \"three\",\n  \"trigger\": \"@Andy\",\n  \"timestamp\": \"TIME\"\n}",
    ),
];

#[test]
fn every_tool_writes_nanoclaws_bytes() {
    let group = Group::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent-runner"));
    let mut server = Program::start(
        command
            .args(["mcp", "--ipc"])
            .arg(group.path("ipc"))
            .arg("--workspace")
            .arg(group.path("workspace"))
            .env("NANOCLAW_CHAT_JID", "1@g.us")
            .env("NANOCLAW_GROUP_FOLDER", "main")
            .env("NANOCLAW_IS_MAIN", "1"),
    );
    let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {},
                       "clientInfo": {"name": "test", "version": "0"}});
    call(&mut server, 0, "initialize", &hello);
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    server.write(&format!("{ready}\n"));
    for (number, (tool, arguments, kind, expected)) in TOOLS.iter().enumerate() {
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        let params = json!({"name": tool, "arguments": arguments});
        let answer = call(&mut server, number + 1, "tools/call", &params);
        assert_ne!(answer["result"]["isError"], true, "{tool}: {answer}");
        let files: Vec<_> = fs::read_dir(group.path("ipc").join(kind))
            .unwrap()
            .collect();
        let [Ok(file)] = &files[..] else {
            panic!("{tool}: {files:?}");
        };
        let text = fs::read_to_string(file.path()).unwrap();
        fs::remove_file(file.path()).unwrap();
        assert_eq!(without_what_differs(&text), *expected, "{tool}");
    }
    server.close_stdin();
    assert_eq!(server.wait().code, 0);
}

/// The answer to a request, which is the server's line of this number.
fn call(server: &mut Program, number: usize, method: &str, params: &Value) -> Value {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    server.write(&format!("{request}\n"));
    server.wait_for_out("an answer", |out| {
        let line = out.split_inclusive('\n').nth(number)?;
        line.ends_with('\n')
            .then(|| serde_json::from_str(line).unwrap())
    })
}

/// The text with marks for its time and its task's id, which must have their
/// form.
fn without_what_differs(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap();
    let time = value["timestamp"].as_str().unwrap();
    assert!(
        time.len() == 24 && time.ends_with('Z') && time.as_bytes()[19] == b'.',
        "{time}"
    );
    let text = text.replace(time, "TIME");
    match value["taskId"].as_str() {
        Some(id) if id != "task-1" => {
            let (millis, random) = id.strip_prefix("task-").unwrap().split_once('-').unwrap();
            assert!(millis.len() == 13 && random.len() == 6, "{id}");
            text.replace(id, "ID")
        }
        _ => text,
    }
}

/// The documents that its host writes to standard input, as `JSON.stringify`
/// does, and the first turn that comes of each. Only the folders are ours.
const DOCUMENTS: &[(&str, &str)] = &[
    (
        r#"{"prompt":"hello","groupFolder":"main","chatJid":"1@g.us","isMain":true"#,
        "hello",
    ),
    (
        r#"{"prompt":"<messages>\n<message sender=\"Ann\" time=\"2026-03-09T10:00:00.000Z\">hi 👋</message>\n</messages>","sessionId":"3385aa4e-0000-4f6d-9e1a-000000000000","groupFolder":"family-chat","chatJid":"12036@g.us","isMain":false,"assistantName":"Andy"#,
        "<messages>\n<message sender=\"Ann\" time=\"2026-03-09T10:00:00.000Z\">hi 👋</message>\n</messages>",
    ),
    (
        r#"{"prompt":"water","groupFolder":"main","chatJid":"1@g.us","isMain":true,"isScheduledTask":true,"assistantName":"Andy"#,
        "[SCHEDULED TASK - The following message was sent automatically and is not coming directly from the user or group.]\n\nwater",
    ),
    (
        r#"{"prompt":"look","groupFolder":"main","chatJid":"1@g.us","isMain":true,"isScheduledTask":true,"script":"echo '{\"wakeAgent\":true,\"data\":{\"new\":2}}'"#,
        "[SCHEDULED TASK]\n\nScript output:\n{\n  \"new\": 2\n}\n\nInstructions:\nlook",
    ),
    (
        r#"{"prompt":"old","groupFolder":"main","chatJid":"1@g.us","isMain":true,"secrets":{"ANTHROPIC_API_KEY":"x"}"#,
        "old",
    ),
];

/// A message file as its host writes it.
const FOLLOW_UP: &[u8] = br#"{"type":"message","text":"and \"this\"\ntoo \ud83d\ude00"}"#;

#[test]
fn every_document_of_its_host_is_read() {
    for (document, expected) in DOCUMENTS {
        let group = Group::new();
        let command = [
            "sh",
            "-c",
            "cat > turn.tmp; cat turn.tmp >> turns; rm turn.tmp",
        ];
        let agent = json!({"kind": "command", "command": command});
        let paths = &group.document("", "", &agent)["drawbridge"]["paths"];
        let options = json!({"agent": agent, "paths": paths});
        // The last text may be open, for the sake of the table.
        let quote = if document.ends_with(['}', 'e']) {
            ""
        } else {
            "\""
        };
        let document = format!("{document}{quote},\"drawbridge\":{options}}}");
        let draft = group.path("ipc/input/.next");
        fs::write(&draft, FOLLOW_UP).unwrap();
        fs::rename(draft, group.path("ipc/input/1772000000000-ab1c.json")).unwrap();
        let mut runner = Program::start(&mut Command::new(env!("CARGO_BIN_EXE_agent-runner")));
        runner.write(&document);
        runner.close_stdin();
        let record = runner.wait_for_out("a record", |out| nanoclaw::records(out).pop());
        assert_eq!(record["status"], "success", "{record}");
        group.close("");
        assert_eq!(runner.wait().code, 0);
        let turn = fs::read_to_string(group.path("workspace/turns")).unwrap();
        assert_eq!(turn, format!("{expected}\nand \"this\"\ntoo 😀"));
        assert_eq!(
            group.input_files(".taken"),
            [""; 0],
            "confirmed and removed"
        );
    }
}
