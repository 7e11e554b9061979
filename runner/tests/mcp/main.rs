//! `agent-runner mcp`, as an MCP client and a host see it.

#![expect(
    clippy::unwrap_used,
    reason = "clippy does not see that helpers of tests are tests"
)]

mod client;

use std::fs;
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use client::{Mcp, said, wait_for_request};
use drawbridge_testkit::eventually;
use serde_json::{Value, json};

const QUEUED: &str = "Queued for the host; it has not confirmed this.";

#[test]
fn the_tools_have_nanoclaws_names_and_parameters() {
    let mut mcp = Mcp::start(false);
    let listed = mcp.rpc("tools/list", &json!({}));
    let mut tools: Vec<_> = listed["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(describe)
        .collect();
    tools.sort();
    insta::assert_snapshot!(tools.join("\n"), @"
    ask_user(question, options?, timeout_seconds?)
    cancel_task(task_id)
    list_tasks()
    pause_task(task_id)
    register_group(folder, jid, name, trigger, requiresTrigger?)
    resume_task(task_id)
    schedule_task(prompt, schedule_type, schedule_value, context_mode?, script?, target_group_jid?)
    send_file(path, filename?, text?)
    send_message(text, sender?)
    update_task(task_id, prompt?, schedule_type?, schedule_value?, script?)
    ");
}

fn describe(tool: &Value) -> String {
    let schema = &tool["inputSchema"];
    let required: Vec<_> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let names = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name);
    let mut names: Vec<_> = names
        .map(|name| (!required.contains(&&json!(name)), name))
        .map(|(optional, name)| {
            (
                optional,
                format!("{name}{}", if optional { "?" } else { "" }),
            )
        })
        .collect();
    names.sort();
    let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
    format!("{}({})", tool["name"].as_str().unwrap(), names.join(", "))
}

#[test]
fn the_newer_handshake_is_answered_without_delay() {
    let mut mcp = Mcp::spawn(false);
    let started = Instant::now();
    let client = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let answer = mcp.rpc("server/discover", &json!({"_meta": client}));
    let result = &answer["result"];
    assert!(result["capabilities"]["tools"].is_object(), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_message_is_queued_when_the_host_does_not_answer() {
    let mut mcp = Mcp::start(false);
    let (failed, text) = mcp.call(
        "send_message",
        &json!({"text": "hi", "sender": "Researcher"}),
    );
    assert_eq!((failed, text.as_str()), (false, QUEUED));
    let (request, name) = mcp.request("messages");
    assert_eq!(
        request,
        json!({"type": "message", "chatJid": "1@g.us", "text": "hi", "sender": "Researcher",
               "groupFolder": "family"})
    );
    let (millis, rest) = name.split_once('-').unwrap();
    assert!(
        millis.len() == 13 && rest.len() == "abcdef.json".len(),
        "{name}"
    );
    assert!(mcp.call("send_message", &json!({"text": " "})).0);
}

/// NanoClaw's host may be replaced by a program that does not parse JSON well.
#[test]
fn a_request_is_pretty_printed_in_nanoclaws_order() {
    let mut mcp = Mcp::start(false);
    mcp.call("send_message", &json!({"text": "hi"}));
    let (_, text) = wait_for_request(&mcp.ipc("messages"));
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.contains("timestamp"))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    {
      "type": "message",
      "chatJid": "1@g.us",
      "text": "hi",
      "groupFolder": "family",
    }
    "#);
}

#[test]
fn the_hosts_answer_reaches_the_agent() {
    let mut mcp = Mcp::start(false);
    fs::create_dir(mcp.ipc("answers")).unwrap();
    for (answer, expected) in [
        (json!({"ok": true}), (false, "Message sent.")),
        (
            json!({"ok": true, "text": "Sent to 3 people."}),
            (false, "Sent to 3 people."),
        ),
        (
            json!({"ok": false, "text": "not your chat"}),
            (true, "The host refused: not your chat"),
        ),
    ] {
        let arguments = json!({"name": "send_message", "arguments": {"text": "hi"}});
        let id = mcp.begin("tools/call", &arguments);
        let (_, name) = mcp.request("messages");
        mcp.host_answers(&name, &answer);
        let (failed, text) = said(&mcp.answer(id));
        assert_eq!((failed, text.as_str()), expected);
    }
}

#[test]
fn a_question_is_answered_or_times_out() {
    let mut mcp = Mcp::start(false);
    let question = json!({"question": "Tea?", "options": ["yes", "no"]});
    let (failed, text) = mcp.call("ask_user", &question);
    assert!(
        failed && text.starts_with("This host cannot ask the user"),
        "{text}"
    );

    fs::create_dir(mcp.ipc("answers")).unwrap();
    let id = mcp.begin(
        "tools/call",
        &json!({"name": "ask_user", "arguments": question}),
    );
    let (request, name) = mcp.request("messages");
    assert_eq!(
        request,
        json!({"type": "ask_user", "chatJid": "1@g.us", "question": "Tea?",
               "options": ["yes", "no"], "timeoutSeconds": 300, "groupFolder": "family"})
    );
    mcp.host_answers(&name, &json!({"ok": true, "text": "yes"}));
    assert_eq!(said(&mcp.answer(id)), (false, "yes".to_owned()));

    let late = mcp.call(
        "ask_user",
        &json!({"question": "Tea?", "timeout_seconds": 1}),
    );
    assert_eq!(late, (true, "No answer within 1 seconds.".to_owned()));
}

#[test]
fn a_task_is_scheduled_with_every_kind_of_schedule() {
    let mut mcp = Mcp::start(false);
    for (kind, value) in [
        ("cron", "0 9 * * *"),
        ("interval", "300000"),
        ("once", "2026-12-01T09:00:00"),
    ] {
        let (failed, text) = mcp.call(
            "schedule_task",
            &json!({"prompt": "water", "schedule_type": kind, "schedule_value": value,
                    "target_group_jid": "2@g.us"}),
        );
        assert!(!failed && text.ends_with(QUEUED), "{text}");
        let (mut request, _) = mcp.request("tasks");
        let id = request["taskId"].take();
        assert!(text.contains(id.as_str().unwrap()), "{text}");
        assert_eq!(
            request,
            json!({"type": "schedule_task", "taskId": null, "prompt": "water",
                   "schedule_type": kind, "schedule_value": value, "context_mode": "group",
                   "targetJid": "1@g.us", "createdBy": "family"})
        );
    }
    for (kind, value) in [
        ("cron", "daily"),
        ("cron", "0 25 * * *"),
        ("interval", "0"),
        ("interval", "-5"),
        ("interval", "soon"),
        ("once", "2026-12-01T09:00:00Z"),
        ("once", "2026-12-01T09:00:00+02:00"),
        ("once", "2026-13-01T09:00:00"),
        ("weekly", "1"),
    ] {
        let arguments = json!({"prompt": "x", "schedule_type": kind, "schedule_value": value});
        assert!(mcp.call("schedule_task", &arguments).0, "{kind} {value}");
    }
    assert_eq!(fs::read_dir(mcp.ipc("tasks")).unwrap().count(), 0);
}

#[test]
fn the_main_group_may_schedule_for_others_and_register_groups() {
    let mut mcp = Mcp::start(true);
    let task = json!({"prompt": "x", "schedule_type": "interval", "schedule_value": "1",
                      "context_mode": "isolated", "target_group_jid": "2@g.us",
                      "script": "echo '{\"wakeAgent\":true}'"});
    assert!(!mcp.call("schedule_task", &task).0);
    let (request, _) = mcp.request("tasks");
    assert_eq!(request["targetJid"], "2@g.us");
    assert_eq!(request["context_mode"], "isolated");
    assert_eq!(request["script"], task["script"]);

    let group = json!({"jid": "3@g.us", "name": "Three", "folder": "three", "trigger": "@Andy"});
    assert_eq!(
        mcp.call("register_group", &group),
        (false, QUEUED.to_owned())
    );
    let (request, _) = mcp.request("tasks");
    let mut expected = group.clone();
    expected["type"] = json!("register_group");
    assert_eq!(request, expected);
    let mut quiet = group.clone();
    quiet["requiresTrigger"] = true.into();
    assert!(!mcp.call("register_group", &quiet).0);
    assert_eq!(mcp.request("tasks").0["requiresTrigger"], true);
    let bad = json!({"jid": "3@g.us", "name": "Three", "folder": "../three", "trigger": "@Andy"});
    assert!(mcp.call("register_group", &bad).0);

    let mut other = Mcp::start(false);
    let refused = other.call("register_group", &group);
    assert_eq!(
        refused,
        (
            true,
            "Only the main group can register new groups.".to_owned()
        )
    );
}

#[test]
fn tasks_are_listed_from_the_hosts_snapshot() {
    let mut mcp = Mcp::start(false);
    assert_eq!(
        mcp.call("list_tasks", &json!({})).1,
        "No scheduled tasks found."
    );
    let snapshot = json!([
        {"id": "a", "groupFolder": "family", "prompt": "water the plants", "schedule_type": "cron",
         "schedule_value": "0 9 * * *", "status": "active", "next_run": "2026-12-01T09:00:00.000Z"},
        {"id": "b", "groupFolder": "other", "prompt": "x", "schedule_type": "once",
         "schedule_value": "2026-12-01T09:00:00", "status": "paused", "next_run": null},
    ]);
    fs::write(mcp.ipc("current_tasks.json"), snapshot.to_string()).unwrap();
    assert_eq!(
        mcp.call("list_tasks", &json!({})).1,
        "Scheduled tasks:\n- [a] water the plants... (cron: 0 9 * * *) - active, next: \
         2026-12-01T09:00:00.000Z"
    );

    let mut main = Mcp::start(true);
    fs::write(main.ipc("current_tasks.json"), snapshot.to_string()).unwrap();
    let all = main.call("list_tasks", &json!({})).1;
    assert_eq!(all.lines().count(), 3, "{all}");
    assert!(all.ends_with("- paused, next: N/A"), "{all}");
    // A host that does not write it in one step shows half of it.
    let half = &snapshot.to_string()[..200];
    fs::write(main.ipc("current_tasks.json"), half).unwrap();
    let (failed, text) = main.call("list_tasks", &json!({}));
    assert!(failed && text.contains("cannot be read"), "{text}");
}

/// A new value is checked against the kind of schedule that the task has.
#[test]
fn an_update_is_checked_for_every_kind_of_schedule() {
    let mut mcp = Mcp::start(false);
    let task = |id: &str, kind: &str, value: &str| {
        json!({"id": id, "groupFolder": "family", "prompt": "x", "schedule_type": kind,
               "schedule_value": value, "status": "active", "next_run": null})
    };
    let snapshot = json!([
        task("c", "cron", "0 9 * * *"),
        task("i", "interval", "300000"),
        task("o", "once", "2026-12-01T09:00:00"),
    ]);
    fs::write(mcp.ipc("current_tasks.json"), snapshot.to_string()).unwrap();
    for (id, kind, value, is_good) in [
        ("c", None, Some("0 8 * * *"), true),
        ("c", None, Some("300000"), false),
        ("i", None, Some("60000"), true),
        ("i", None, Some("0"), false),
        ("i", None, Some("0 8 * * *"), false),
        ("o", None, Some("2026-12-02T09:00:00"), true),
        ("o", None, Some("2026-12-02T09:00:00Z"), false),
        ("o", None, Some("tomorrow"), false),
        ("c", Some("once"), None, false),
        ("c", Some("once"), Some("tomorrow"), false),
        ("c", Some("interval"), Some("5"), true),
        ("unknown", None, Some("1"), false),
    ] {
        let mut arguments = json!({"task_id": id});
        for (name, text) in [("schedule_type", kind), ("schedule_value", value)] {
            if let Some(text) = text {
                arguments[name] = text.into();
            }
        }
        let (failed, text) = mcp.call("update_task", &arguments);
        assert_eq!(failed, !is_good, "{arguments}: {text}");
        if is_good {
            let (request, _) = mcp.request("tasks");
            arguments.as_object_mut().unwrap().remove("task_id");
            let mut expected = json!({"type": "update_task", "taskId": id,
                                      "groupFolder": "family", "isMain": false});
            expected
                .as_object_mut()
                .unwrap()
                .append(arguments.as_object_mut().unwrap());
            assert_eq!(request, expected);
        }
    }
    assert_eq!(fs::read_dir(mcp.ipc("tasks")).unwrap().count(), 0);
}

#[test]
fn tasks_are_paused_resumed_and_cancelled() {
    let mut mcp = Mcp::start(false);
    for tool in ["pause_task", "resume_task", "cancel_task"] {
        assert_eq!(
            mcp.call(tool, &json!({"task_id": "a"})),
            (false, QUEUED.to_owned())
        );
        let (request, _) = mcp.request("tasks");
        assert_eq!(
            request,
            json!({"type": tool, "taskId": "a", "groupFolder": "family", "isMain": false})
        );
    }
}

#[test]
fn only_files_of_the_group_can_be_sent() {
    let mut mcp = Mcp::start(false);
    fs::write(mcp.group().join("report.pdf"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", mcp.group().join("link")).unwrap();
    let path = mcp.group().join("report.pdf");
    assert!(
        !mcp.call("send_file", &json!({"path": path, "text": "here"}))
            .0
    );
    let (request, _) = mcp.request("messages");
    assert_eq!(
        request,
        json!({"type": "file", "chatJid": "1@g.us", "path": "report.pdf",
               "filename": "report.pdf", "text": "here", "groupFolder": "family"})
    );
    for bad in ["link", "../ipc", "/etc/hostname", "none"] {
        assert!(mcp.call("send_file", &json!({"path": bad})).0, "{bad}");
    }
}

#[test]
fn it_ends_with_its_client() {
    let mut mcp = Mcp::start(false);
    let stdin = std::mem::replace(&mut mcp.stdin, null_stdin());
    drop(stdin);
    eventually("the server's end", || mcp.child.try_wait().unwrap());
}

fn null_stdin() -> ChildStdin {
    let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    child.wait().unwrap();
    stdin
}
