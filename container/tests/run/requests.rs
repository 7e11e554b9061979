//! What an agent asks of the host, from the file to the answer.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use drawbridge_testkit::{Dialogue, Ended};
use serde_json::{Value, json};

use super::TestMachine;

impl TestMachine {
    /// The agent makes these requests, in order; its answer to the prompt is
    /// what it was told, one line per request.
    pub(super) fn asking(requests: &[Value]) -> Self {
        let machine = Self::new("requests");
        fs::create_dir(machine.path("bin/requests")).unwrap();
        for (number, request) in requests.iter().enumerate() {
            let name = format!("bin/requests/{number}.json");
            fs::write(machine.path(&name), request.to_string()).unwrap();
        }
        machine
    }

    fn group_folder(&self, name: &str) -> std::path::PathBuf {
        self.path("state/groups").join(name)
    }

    pub(super) fn executable(&self, name: &str, script: &str) -> String {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/bash\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }
}

fn told(ended: &Ended) -> Vec<Value> {
    let lines = ended.out.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn message(text: &str) -> Value {
    json!({"type": "message", "chatJid": "g@drawbridge", "text": text})
}

fn question() -> Value {
    json!({"type": "ask_user", "chatJid": "g@drawbridge", "question": "Which?", "timeoutSeconds": 20})
}

fn pause(id: &str) -> Value {
    json!({"type": "pause_task", "taskId": id})
}

/// A program that drives a run.
struct Driver(Dialogue);

impl Driver {
    fn start(machine: &TestMachine) -> Self {
        let run = ["run", "--json", "--prompt", "hi", "--group", "g"];
        Self(Dialogue::start(&mut machine.command(&run)))
    }

    fn send(&mut self, line: &Value) {
        self.0.send(line);
    }

    /// The next event of a type.
    fn next(&mut self, kind: &str) -> Value {
        self.0.find(|event| event["type"] == kind)
    }

    /// What the agent was told, at the end.
    fn finish(mut self) -> Vec<Value> {
        let result = self.next("result");
        self.0.program.close_stdin();
        assert_eq!(self.next("exit")["code"], 0);
        assert_eq!(self.0.end().code, 0);
        let lines = result["result"].as_str().unwrap().lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[test]
fn requests_are_events_and_answers_come_on_standard_input() {
    let machine = TestMachine::asking(&[message("working"), question(), pause("t1")]);
    let mut driver = Driver::start(&machine);
    driver.send(&json!({
        "type": "snapshot",
        "tasks": [{"id": "t1", "groupFolder": "g", "schedule_type": "once", "schedule_value": "x"}],
    }));
    let asked = driver.next("request");
    assert_eq!(asked["group"], "g");
    assert_eq!(asked["request"], message("working"));
    driver.send(&json!({"type": "answer", "id": asked["id"], "ok": true}));
    let asked = driver.next("request");
    // A closed conversation still takes answers.
    driver.send(&json!({"type": "close"}));
    driver.send(&json!({"type": "answer", "id": asked["id"], "ok": true, "text": "blue"}));
    let asked = driver.next("request");
    assert_eq!(asked["request"], pause("t1"));
    driver.send(&json!({"type": "answer", "id": "nonsense", "ok": true}));
    driver.send(&json!({"type": "answer", "id": asked["id"], "ok": false, "text": "not now"}));
    assert_eq!(
        driver.next("warning")["message"],
        "no request \"nonsense\" waits for an answer"
    );
    let told = driver.finish();
    assert_eq!(told[0], json!({"ok": true}));
    assert_eq!(told[1], json!({"ok": true, "text": "blue"}));
    assert_eq!(told[2], json!({"ok": false, "text": "not now"}));
    machine.assert_nothing_is_left();
    for folder in ["requests", "rejected", "ipc/answers", "ipc/messages"] {
        let left = fs::read_dir(machine.group_folder("g").join(folder)).unwrap();
        // The fake engine does not remove what it has read.
        assert!(left.count() == 0 || folder == "ipc/answers", "{folder}");
    }
}

#[test]
fn a_person_sees_messages_and_nobody_can_be_asked_without_a_terminal() {
    let machine = TestMachine::asking(&[message("working"), question(), pause("t1")]);
    let ended = machine.run(&["--group", "g"]);
    assert_eq!(ended.out.lines().next(), Some("working"), "{ended:?}");
    let told = told(&ended);
    assert_eq!(told[0], json!({"ok": true}));
    assert!(
        told[1]["text"]
            .as_str()
            .unwrap()
            .contains("nobody can be asked")
    );
    assert_eq!(told[2]["text"], "there is no task \"t1\"");
}

#[test]
fn a_program_that_only_reads_is_told_and_the_agent_knows() {
    let machine = TestMachine::asking(&[message("working"), question()]);
    let ended = machine.run(&["--group", "g", "--json"]);
    let events = ended.events();
    let of_type = |name: &str| events.iter().filter(|e| e["type"] == name).count();
    assert_eq!(of_type("request"), 2, "{ended:?}");
    let result = events.iter().find(|e| e["type"] == "result").unwrap();
    let result = result["result"].as_str().unwrap();
    assert!(result.contains("it has not confirmed this"), "{result}");
    assert!(result.contains("nobody can be asked"), "{result}");
}

#[test]
fn a_handler_answers_in_order_and_its_failure_is_a_refusal() {
    let machine = TestMachine::asking(&[
        message("one"),
        message("fail"),
        message("nonsense"),
        question(),
    ]);
    let log = machine.path("handled").display().to_string();
    let handler = machine.executable(
        "handler",
        &format!(
            "read -r request; echo \"$request\" >> {log}; case $request in \
             *fail*) echo it broke >&2; exit 1;; *nonsense*) echo yes;; \
             *Which*) echo '{{\"ok\":true,\"text\":\"red\"}}';; \
             *) echo '{{\"ok\":true,\"text\":\"done\"}}';; esac"
        ),
    );
    let ended = machine.run(&["--group", "g", "--on-request", &handler]);
    let told = told(&ended);
    assert_eq!(told[0], json!({"ok": true, "text": "done"}), "{ended:?}");
    for failed in &told[1..3] {
        assert_eq!(failed["ok"], false);
    }
    assert_eq!(told[3], json!({"ok": true, "text": "red"}));
    assert!(
        ended.err.contains("the request handler failed: it broke"),
        "{ended:?}"
    );
    assert!(
        ended.err.contains("its answer is not valid JSON"),
        "{ended:?}"
    );
    let requests = machine.read("handled");
    assert_eq!(requests.lines().count(), 4, "{requests}");
    let first: Value = serde_json::from_str(requests.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["group"], &first["request"]),
        (&json!("g"), &message("one"))
    );
    let ended = machine.run(&["--on-request", "./none"]);
    ended.assert_error(2, "on-request: there is no program ./none");
}

#[test]
fn the_snapshot_gives_the_group_its_chat_and_its_rights() {
    let to_main = json!({"type": "message", "chatJid": "boss@chat", "text": "hello"});
    let machine = TestMachine::asking(&[to_main]);
    let snapshot = |is_main: bool| {
        json!({
            "groups": [
                {"jid": "g@chat", "name": "G", "folder": "g", "isMain": is_main},
                {"jid": "boss@chat", "name": "Boss", "folder": "boss"},
            ],
            "tasks": [{"id": "t1", "groupFolder": "boss", "schedule_type": "once", "schedule_value": "x"}],
        })
    };
    let path = machine.path("snapshot.json");
    let run = |is_main: bool| {
        fs::write(&path, snapshot(is_main).to_string()).unwrap();
        let ended = machine.run(&["--group", "g", "--snapshot", &path.display().to_string()]);
        let input: Value = serde_json::from_str(&machine.read("bin/input")).unwrap();
        assert_eq!(
            (&input["chatJid"], &input["isMain"]),
            (&json!("g@chat"), &json!(is_main))
        );
        let tasks = fs::read_to_string(machine.group_folder("g").join("ipc/current_tasks.json"));
        let tasks: Value = serde_json::from_str(&tasks.unwrap()).unwrap();
        assert_eq!(tasks.as_array().unwrap().len(), usize::from(is_main));
        told(&ended)[0]["ok"] == true
    };
    assert!(!run(false));
    assert!(run(true));
    fs::write(&path, "{\"grups\":[]}").unwrap();
    let ended = machine.run(&["--snapshot", &path.display().to_string()]);
    ended.assert_error(2, "unknown field `grups`");
}

#[test]
fn a_file_is_handed_out_as_a_copy_and_hostile_files_are_not() {
    let file = |path: &str| json!({"type": "file", "chatJid": "g@drawbridge", "path": path});
    let machine = TestMachine::asking(&[
        file("report.txt"),
        file("link"),
        file("../session.json"),
        file("/etc/passwd"),
    ]);
    let workspace = machine.group_folder("g").join("workspace");
    fs::create_dir_all(&workspace).unwrap();
    fs::write(workspace.join("report.txt"), "the report").unwrap();
    symlink("/etc/passwd", workspace.join("link")).unwrap();
    let ended = machine.run(&["--group", "g", "--json"]);
    let events = ended.events();
    let asked: Vec<_> = events.iter().filter(|e| e["type"] == "request").collect();
    assert_eq!(asked.len(), 1, "{ended:?}");
    let copy = fs::read_to_string(asked[0]["file"].as_str().unwrap());
    assert_eq!(copy.unwrap(), "the report");
    let warnings: Vec<_> = events.iter().filter(|e| e["type"] == "warning").collect();
    assert_eq!(warnings.len(), 3, "{ended:?}");
}

#[test]
fn an_answer_names_files_and_the_event_holds_their_copies() {
    let machine = TestMachine::new("answer");
    let workspace = machine.group_folder("g").join("workspace");
    fs::create_dir_all(&workspace).unwrap();
    fs::write(workspace.join("a.txt"), "a").unwrap();
    let prompt = "Look: [send_file: /workspace/group/a.txt] [send_file: /etc/passwd]";
    let args = ["run", "--json", "--group", "g", "--prompt", prompt];
    let ended = machine.call(&args);
    let events = ended.events();
    let result = events.iter().find(|e| e["type"] == "result").unwrap();
    assert_eq!(
        result["result"],
        "Look:  [send_file: /etc/passwd] (session none)"
    );
    let files = result["files"].as_array().unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(fs::read_to_string(files[0].as_str().unwrap()).unwrap(), "a");
    let warning = events.iter().find(|e| e["type"] == "warning").unwrap();
    assert!(
        warning["message"]
            .as_str()
            .unwrap()
            .contains("\"/etc/passwd\" cannot be sent")
    );
}

/// The agent owns its IPC folder: whatever it puts there stays its own problem.
#[test]
fn hostile_files_are_set_aside_once_and_leave_the_rest_alone() {
    let machine = TestMachine::asking(&[message("still heard")]);
    let messages = machine.group_folder("g").join("ipc/messages");
    fs::create_dir_all(&messages).unwrap();
    let outside = machine.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("theirs"), message("stolen").to_string()).unwrap();
    symlink(outside.join("theirs"), messages.join("link.json")).unwrap();
    symlink(&outside, machine.group_folder("g").join("ipc/answers")).unwrap();
    symlink(&outside, machine.group_folder("g").join("ipc/tasks")).unwrap();
    symlink(&outside, machine.group_folder("g").join("ipc/input")).unwrap();
    symlink(
        outside.join("theirs"),
        machine.group_folder("g").join("ipc/current_tasks.json"),
    )
    .unwrap();
    fs::create_dir(messages.join("folder.json")).unwrap();
    fs::write(messages.join("bad.json"), "{").unwrap();
    fs::File::create(messages.join("huge.json"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let pipe = std::process::Command::new("mkfifo")
        .arg(messages.join("pipe.json"))
        .status();
    assert!(pipe.unwrap().success());

    let ended = machine.run(&["--group", "g"]);
    assert!(ended.out.starts_with("still heard\n"), "{ended:?}");
    assert!(!ended.out.contains("stolen"), "{ended:?}");
    assert_eq!(ended.err.matches("is refused").count(), 4, "{ended:?}");
    assert_eq!(
        fs::read_dir(&outside).unwrap().count(),
        1,
        "something was written outside"
    );
    let theirs = fs::read_to_string(outside.join("theirs")).unwrap();
    assert!(
        theirs.contains("stolen"),
        "it was written through a symlink"
    );
    let reason = machine.group_folder("g").join("rejected/bad.json.reason");
    assert!(
        fs::read_to_string(reason)
            .unwrap()
            .contains("not a request")
    );
    // Once is enough.
    let again = machine.run(&["--group", "g"]);
    assert!(!again.err.contains("is refused"), "{again:?}");
}

/// A launcher that was killed between taking a request and telling of it.
#[test]
fn what_a_killed_launcher_had_taken_is_told_by_the_next() {
    let machine = TestMachine::new("answer");
    let taken = machine.group_folder("g").join("requests");
    fs::create_dir_all(&taken).unwrap();
    fs::write(taken.join("1-a.json"), message("late").to_string()).unwrap();
    fs::write(taken.join("2-b.json"), question().to_string()).unwrap();
    let ended = machine.run(&["--group", "g"]);
    assert!(ended.out.starts_with("late\n"), "{ended:?}");
    assert!(!ended.err.contains("the agent asks"), "{ended:?}");
    assert_eq!(fs::read_dir(taken).unwrap().count(), 0);
}
