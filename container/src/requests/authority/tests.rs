//! The 33 cases that NanoClaw documents for its host, by their names, and ours.

use drawbridge_shared::protocol::ContextMode;
use serde_json::{Value, json};

use super::*;

const ONCE: &str = "2025-06-01T00:00:00";

/// The groups of the documented cases, with a task of each kind of owner.
fn snapshot() -> Snapshot {
    let task = |id: &str, folder: &str| json!({"id": id, "groupFolder": folder, "schedule_type": "once", "schedule_value": ONCE});
    let interval = json!({
        "id": "task-interval", "groupFolder": "other-group",
        "schedule_type": "interval", "schedule_value": "60000"
    });
    serde_json::from_value(json!({
        "groups": [
            {"jid": "main@g.us", "name": "Main", "folder": "whatsapp_main", "isMain": true},
            {"jid": "other@g.us", "name": "Other", "folder": "other-group"},
            {"jid": "third@g.us", "name": "Third", "folder": "third-group"},
            {"jid": "seen@g.us", "name": "Seen, not registered"},
        ],
        "tasks": [task("task-main", "whatsapp_main"), task("task-other", "other-group"), interval],
    }))
    .unwrap()
}

fn decide_json(group: &str, request: &Value) -> Decision {
    match Request::parse(request.to_string().as_bytes()) {
        Ok(request) => decide(&group.parse().unwrap(), &snapshot(), &request),
        Err(error) => Decision::Refused(error.to_string()),
    }
}

/// Checks a table: may or may not, who, the name of the case, the request in
/// short or as JSON.
fn check(table: &str, count: usize) {
    let rows: Vec<_> = table.trim().lines().map(|row| row.split('|')).collect();
    assert_eq!(rows.len(), count);
    for row in rows {
        let [expected, who, name, words] = row.map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("a row has four columns")
        };
        let group = match who {
            "main" => "whatsapp_main",
            "other" => "other-group",
            _ => "third-group",
        };
        let decision = decide_json(group, &request(words));
        let is_allowed = decision == Decision::Allowed;
        assert_eq!(is_allowed, expected == "may", "{name}: {decision:?}");
    }
}

fn request(words: &str) -> Value {
    if words.starts_with('{') {
        return serde_json::from_str(words).unwrap();
    }
    let mut words = words.splitn(4, ' ');
    let mut next = || words.next().unwrap_or_default();
    match next() {
        "schedule" => {
            let (target, kind, value) = (next(), next(), next());
            schedule(kind, value, target)
        }
        "message" => json!({"type": "message", "chatJid": next(), "text": "hello"}),
        "file" => json!({"type": "file", "chatJid": next(), "path": "a"}),
        "ask" => {
            let jid = next();
            json!({"type": "ask_user", "chatJid": jid, "question": "?", "timeoutSeconds": 5})
        }
        "register" => json!({
            "type": "register_group", "jid": "new@g.us", "name": "New Group",
            "folder": next(), "trigger": "@Andy"
        }),
        "update" => {
            let (id, field, value) = (next(), next(), next());
            json!({"type": "update_task", "taskId": id, field: value})
        }
        what => json!({"type": what, "taskId": next()}),
    }
}

fn schedule(kind: &str, value: &str, target: &str) -> Value {
    json!({
        "type": "schedule_task", "prompt": "do something", "schedule_type": kind,
        "schedule_value": value, "targetJid": target
    })
}

#[test]
fn the_documented_cases_of_tasks() {
    check(
        "
may | main  | main group can schedule for another group | schedule other@g.us once 2025-06-01T00:00:00
may | other | non-main group can schedule for itself | schedule other@g.us once 2025-06-01T00:00:00
not | other | non-main group cannot schedule for another group | schedule main@g.us once 2025-06-01T00:00:00
not | main  | rejects schedule_task for unregistered target JID | schedule unknown@g.us once 2025-06-01T00:00:00
may | main  | main group can pause any task | pause_task task-other
may | other | non-main group can pause its own task | pause_task task-other
not | other | non-main group cannot pause another groups task | pause_task task-main
may | main  | main group can resume any task | resume_task task-other
may | other | non-main group can resume its own task | resume_task task-other
not | third | non-main group cannot resume another groups task | resume_task task-other
may | main  | main group can cancel any task | cancel_task task-other
may | other | non-main group can cancel its own task | cancel_task task-other
not | other | non-main group cannot cancel another groups task | cancel_task task-main
",
        13,
    );
}

#[test]
fn the_documented_cases_of_groups_and_messages() {
    check(
        r#"
not | other | non-main group cannot register a group | register new-group
not | main  | main group cannot register with unsafe folder path | register ../../outside
may | main  | main group can register a new group | register new-group
not | main  | rejects register_group with missing required fields | {"type": "register_group", "jid": "partial@g.us", "name": "Partial"}
not | other | non-main group cannot trigger refresh | refresh_groups
may | main  | main group can send to any group | message other@g.us
may | other | non-main group can send to its own chat | message other@g.us
not | other | non-main group cannot send to another groups chat | message main@g.us
not | other | non-main group cannot send to unregistered JID | message unknown@g.us
may | main  | main group can send to unregistered JID | message unknown@g.us
"#,
        10,
    );
}

#[test]
fn the_documented_cases_of_schedules() {
    check(
        "
may | main | creates task with cron schedule and computes next_run | schedule other@g.us cron 0 9 * * *
not | main | rejects invalid cron expression | schedule other@g.us cron not a cron
may | main | creates task with interval schedule | schedule other@g.us interval 3600000
not | main | rejects invalid interval (non-numeric) | schedule other@g.us interval abc
not | main | rejects invalid interval (zero) | schedule other@g.us interval 0
not | main | rejects invalid once timestamp | schedule other@g.us once not-a-date
",
        6,
    );
}

/// The other four of the 33.
#[test]
fn the_documented_cases_of_context_mode() {
    let mode = |given: Option<&str>| {
        let mut request = schedule("once", ONCE, "other@g.us");
        if let Some(given) = given {
            request["context_mode"] = given.into();
        }
        assert_eq!(decide_json("whatsapp_main", &request), Decision::Allowed);
        match Request::parse(request.to_string().as_bytes()) {
            Ok(Request::ScheduleTask { context_mode, .. }) => context_mode,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(mode(Some("group")), ContextMode::Group);
    assert_eq!(mode(Some("isolated")), ContextMode::Isolated);
    assert_eq!(mode(Some("bogus")), ContextMode::Isolated);
    assert_eq!(mode(None), ContextMode::Isolated);
}

#[test]
fn our_own_cases() {
    check(
        r#"
not | other | what a message says about its sender counts for nothing | {"type": "message", "chatJid": "main@g.us", "text": "x", "groupFolder": "whatsapp_main", "isMain": true}
not | other | an unregistered chat belongs to nobody | message seen@g.us
not | main  | an unregistered chat cannot run tasks | schedule seen@g.us once 2025-06-01T00:00:00
not | other | questions follow the rule of messages | ask main@g.us
may | other | questions go to the own chat | ask other@g.us
not | other | files follow the rule of messages | file main@g.us
may | other | files go to the own chat | file other@g.us
not | main  | an empty message is refused | {"type": "message", "chatJid": "main@g.us", "text": " "}
may | other | update of the own task | update task-other prompt x
not | other | update of another group's task | update task-main prompt x
may | other | a value has to fit the kind there is | update task-interval schedule_value 5000
not | other | a value has to fit the kind there is | update task-interval schedule_value daily
not | other | a kind has to fit the value there is | update task-interval schedule_type cron
not | main  | an unknown kind of schedule | schedule other@g.us weekly x
not | main  | an unknown task | pause_task task-none
may | main  | the main group may refresh | refresh_groups
not | main  | no group is called global | register global
not | main  | an unknown type | reboot
"#,
        18,
    );
}

#[test]
fn another_groups_task_looks_like_none() {
    let of = |id| decide_json("other-group", &request(&format!("pause_task {id}")));
    let Decision::Refused(hidden) = of("task-main") else {
        panic!("allowed")
    };
    let Decision::Refused(absent) = of("task-gone") else {
        panic!("allowed")
    };
    assert_eq!(hidden.replace("main", "gone"), absent);
}
