//! NanoClaw's documents and files, byte for byte: what its host writes is read,
//! and what its tools write is written.

#![expect(
    clippy::unwrap_used,
    reason = "clippy does not see that helpers of tests are tests"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// For everything a test waits for.
const DEADLINE: Duration = Duration::from_secs(30);

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
    let folder = folders();
    let mut child = Command::new(env!("CARGO_BIN_EXE_agent-runner"))
        .args(["mcp", "--ipc"])
        .arg(folder.path().join("ipc"))
        .arg("--workspace")
        .arg(folder.path().join("workspace"))
        .env("NANOCLAW_CHAT_JID", "1@g.us")
        .env("NANOCLAW_GROUP_FOLDER", "main")
        .env("NANOCLAW_IS_MAIN", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {},
                       "clientInfo": {"name": "test", "version": "0"}});
    call(&mut stdin, &mut answers, "initialize", &hello);
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    writeln!(stdin, "{ready}").unwrap();
    for (tool, arguments, kind, expected) in TOOLS {
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        let params = json!({"name": tool, "arguments": arguments});
        let answer = call(&mut stdin, &mut answers, "tools/call", &params);
        assert_ne!(answer["result"]["isError"], true, "{tool}: {answer}");
        let files: Vec<_> = fs::read_dir(folder.path().join("ipc").join(kind))
            .unwrap()
            .collect();
        let [Ok(file)] = &files[..] else {
            panic!("{tool}: {files:?}");
        };
        let text = fs::read_to_string(file.path()).unwrap();
        fs::remove_file(file.path()).unwrap();
        assert_eq!(without_what_differs(&text), *expected, "{tool}");
    }
    drop(stdin);
    end(child);
}

fn call(
    stdin: &mut impl Write,
    answers: &mut impl Iterator<Item = std::io::Result<String>>,
    method: &str,
    params: &Value,
) -> Value {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    writeln!(stdin, "{request}").unwrap();
    serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap()
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
        let folder = folders();
        let path = |name: &str| folder.path().join(name);
        let options = json!({
            "agent": {"kind": "command", "command": ["sh", "-c", "cat > turn.tmp; cat turn.tmp >> turns; rm turn.tmp"]},
            "paths": {"workspace": path("workspace"), "ipc": path("ipc"), "home": path("home")},
        });
        // The last text may be open, for the sake of the table.
        let quote = if document.ends_with(['}', 'e']) {
            ""
        } else {
            "\""
        };
        let document = format!("{document}{quote},\"drawbridge\":{options}}}");
        fs::write(path("ipc/input/.next"), FOLLOW_UP).unwrap();
        fs::rename(
            path("ipc/input/.next"),
            path("ipc/input/1772000000000-ab1c.json"),
        )
        .unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_agent-runner"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(document.as_bytes())
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let record = lines
            .find(|line| line.as_ref().unwrap().starts_with('{'))
            .unwrap()
            .unwrap();
        assert!(record.contains("\"status\":\"success\""), "{record}");
        fs::write(path("ipc/input/_close"), "").unwrap();
        end(child);
        let turn = fs::read_to_string(path("workspace/turns")).unwrap();
        assert_eq!(turn, format!("{expected}\nand \"this\"\ntoo 😀"));
        assert!(is_empty(&path("ipc/input/.taken")), "confirmed and removed");
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

fn folders() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["workspace", "home", "ipc/input"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    folder
}

fn end(mut child: Child) {
    let deadline = Instant::now() + DEADLINE;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
