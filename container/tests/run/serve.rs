//! `drawbridge serve` with an engine that fails in all the ways it can.

use std::fs;

use drawbridge_testkit::Dialogue;
use serde_json::{Value, json};

use super::{KEY, TestMachine};

/// A program that drives `serve --stdio`.
pub(super) struct Driver(Dialogue);

impl Driver {
    pub(super) fn start(machine: &TestMachine, args: &[&str]) -> Self {
        let start = ["serve", "--stdio", "--retry-delay", "10ms"];
        Self(Dialogue::start(
            &mut machine.command(&[&start, args].concat()),
        ))
    }

    fn send(&mut self, command: &Value) {
        self.0.send(command);
    }

    pub(super) fn submit(&mut self, submission: &Value) {
        self.send(&json!({ "submit": submission }));
    }

    /// The lines up to the first one that has this type of event.
    pub(super) fn until(&mut self, kind: &str) -> Vec<Value> {
        self.until_one_of(&[kind])
    }

    /// The lines up to the first one that has one of these types of events.
    pub(super) fn until_one_of(&mut self, kinds: &[&str]) -> Vec<Value> {
        self.0
            .until(|line| kinds.iter().any(|kind| line["event"]["type"] == *kind))
    }

    /// The next answer to a command.
    fn answer(&mut self) -> Value {
        self.0
            .find(|line| line.get("answer").is_some() || line.get("error").is_some())
    }

    /// Kills it as a power cut would.
    fn kill(mut self) {
        self.0.program.kill();
    }

    pub(super) fn end(self) -> i32 {
        self.0.end().code
    }
}

fn count(lines: &[Value], kind: &str) -> usize {
    let of_kind = lines.iter().filter(|line| line["event"]["type"] == kind);
    of_kind.count()
}

#[test]
fn what_never_started_is_tried_three_times_and_then_kept() {
    for script in ["cannot start", "no image", "stopped"] {
        let machine = TestMachine::new(script);
        let mut driver = Driver::start(&machine, &["--runtime", "docker"]);
        driver.submit(&json!({ "prompt": "hi", "group": "g" }));
        let lines = driver.until("dead");
        assert_eq!((count(&lines, "attempt"), count(&lines, "retry")), (3, 2));
        let dead = &lines.last().unwrap()["event"];
        assert_eq!(
            (&dead["class"], &dead["code"]),
            (&json!("never-started"), &json!(3))
        );
        assert!(dead["hint"].is_string(), "{dead}");
        // When the cause is gone, a person has it tried again.
        machine.script("answer");
        driver.send(&json!({ "retry": { "id": 1 } }));
        let lines = driver.until("done");
        let result = lines.iter().find(|line| line["event"]["type"] == "result");
        assert_eq!(result.unwrap()["event"]["result"], "hi (session none)");
        assert_eq!(driver.end(), 0);
        machine.assert_nothing_is_left();
    }
}

#[test]
fn an_engine_that_comes_back_in_time_costs_nothing() {
    let machine = TestMachine::new("stopped");
    let mut driver = Driver::start(&machine, &["--runtime", "docker", "--max-attempts", "50"]);
    driver.submit(&json!({ "prompt": "hi" }));
    driver.until("retry");
    machine.script("answer");
    driver.until("done");
    assert_eq!(driver.end(), 0);
}

#[test]
fn each_failure_of_the_engine_has_its_class_and_a_log_without_secrets() {
    for (script, class, code, expected) in [
        ("engine fails", "infrastructure", 4, "unexpected EOF"),
        ("crash", "never-started", 1, "it broke with [session token]"),
        ("agent fails", "agent-failed", 1, ""),
    ] {
        let machine = TestMachine::new(script);
        let mut driver = Driver::start(&machine, &["--runtime", "docker", "--max-attempts", "1"]);
        driver.submit(&json!({ "prompt": "hi" }));
        let lines = driver.until("dead");
        let dead = &lines.last().unwrap()["event"];
        assert_eq!(
            (&dead["class"], &dead["code"]),
            (&json!(class), &json!(code)),
            "{script}"
        );
        driver.send(&json!({ "dead-letter": { "id": 1 } }));
        let letter = driver.answer()["answer"].take();
        let letter = if letter["failures"].is_array() {
            letter
        } else {
            driver.answer()["answer"].take()
        };
        assert_eq!(letter["input"], json!({ "prompt": "hi" }).to_string());
        let log = letter["failures"][0]["log"].as_str().unwrap();
        assert!(log.contains(expected), "{script}: {letter}");
        assert!(!letter.to_string().contains(KEY));
        assert_eq!(driver.end(), 0);
        machine.assert_nothing_is_left();
    }
}

#[test]
fn what_an_agent_asks_for_is_an_event_and_a_command_answers_it() {
    let request = json!({"type": "message", "chatJid": "g@drawbridge", "text": "half done"});
    let machine = TestMachine::new("requests");
    fs::create_dir(machine.path("bin/requests")).unwrap();
    fs::write(machine.path("bin/requests/0.json"), request.to_string()).unwrap();
    let mut driver = Driver::start(&machine, &["--runtime", "docker"]);
    driver.submit(&json!({ "prompt": "hi", "group": "g" }));
    let lines = driver.until("request");
    let asked = &lines.last().unwrap()["event"];
    assert_eq!(asked["request"]["text"], "half done");
    let answer = json!({ "id": 1, "request": asked["id"], "ok": true, "text": "heard" });
    driver.send(&json!({ "answer": answer }));
    let lines = driver.until("done");
    let result = lines.iter().find(|line| line["event"]["type"] == "result");
    let told = result.unwrap()["event"]["result"].as_str().unwrap();
    assert!(told.contains("heard"), "{told}");
    assert_eq!(driver.end(), 0);
}

#[test]
fn the_file_sets_serve_up_and_flags_win() {
    let machine = TestMachine::new("cannot start");
    let config = "[serve]\nmax-attempts = 2\nretry-delay = '1h'\nmax-waiting = 0\n";
    fs::write(machine.path("cwd/drawbridge.toml"), config).unwrap();
    let mut driver = Driver::start(&machine, &["--runtime", "docker", "--max-waiting", "9"]);
    driver.submit(&json!({ "prompt": "hi" }));
    let lines = driver.until("dead");
    assert_eq!((count(&lines, "attempt"), count(&lines, "retry")), (2, 1));
    assert_eq!(driver.end(), 0);
    for (flag, value) in [
        ("--max-runs", "0"),
        ("--drain", "soon"),
        ("--on-request", ""),
    ] {
        let ended = machine.call(&["serve", flag, value]);
        ended.assert_error(2, &format!("{flag}: value"));
    }
}

/// The handler of the file answers, until a flag says who does.
#[test]
fn the_file_names_the_handler_and_a_submission_cannot() {
    let request = json!({"type": "message", "chatJid": "g@drawbridge", "text": "half done"});
    let machine = TestMachine::new("requests");
    fs::create_dir(machine.path("bin/requests")).unwrap();
    fs::write(machine.path("bin/requests/0.json"), request.to_string()).unwrap();
    let handler = machine.executable("handler", "echo '{\"ok\":true,\"text\":\"by handler\"}'");
    let config = format!("[run]\non-request = '{handler}'\n");
    fs::write(machine.path("cwd/drawbridge.toml"), config).unwrap();
    let ended = machine.run(&["--group", "g"]);
    assert!(ended.out.contains("by handler"), "{ended:?}");

    let answer_of = |driver: &mut Driver| {
        driver.submit(&json!({ "prompt": "hi", "group": "g" }));
        let lines = driver.until("done");
        let result = lines.iter().find(|line| line["event"]["type"] == "result");
        result.unwrap()["event"]["result"].to_string()
    };
    let mut driver = Driver::start(&machine, &["--runtime", "docker"]);
    assert!(answer_of(&mut driver).contains("by handler"));
    let chosen = json!({ "prompt": "hi", "settings": { "on-request": "/bin/true" } });
    driver.submit(&chosen);
    let refusal = driver.answer().to_string();
    assert!(
        refusal.contains("unknown setting \\\"on-request\\\""),
        "{refusal}"
    );
    assert_eq!(driver.end(), 0);

    // The request that nobody answers is told; see docs/requests.md.
    let none = ["--runtime", "docker", "--on-request", "none"];
    let mut driver = Driver::start(&machine, &none);
    driver.submit(&json!({ "prompt": "hi", "group": "g" }));
    let lines = driver.until("request");
    let id = lines.last().unwrap()["event"]["id"].clone();
    let by_caller = json!({ "id": lines.last().unwrap()["submission"], "request": id, "ok": true, "text": "by caller" });
    driver.send(&json!({ "answer": by_caller }));
    let lines = driver.until("done");
    let result = lines.iter().find(|line| line["event"]["type"] == "result");
    assert!(result.unwrap().to_string().contains("by caller"));
    assert_eq!(driver.end(), 0);
}

/// What the allowlist does not name is refused while the caller listens.
#[test]
fn a_submission_names_mounts_within_the_allowlist() {
    let machine = TestMachine::new("answer");
    // Not below /tmp: an image has that path itself.
    let outside = tempfile::tempdir_in("/var/tmp").unwrap();
    let app = outside.path().join("app");
    fs::create_dir(&app).unwrap();
    let list = machine.path("cwd/.config/drawbridge");
    fs::create_dir_all(&list).unwrap();
    let list = list.join("mount-allowlist.json");
    let allow = |root: &std::path::Path| {
        let allowed = json!([{ "path": root, "allowReadWrite": false }]);
        let text =
            json!({ "allowedRoots": allowed, "blockedPatterns": [], "nonMainReadOnly": false });
        fs::write(&list, text.to_string()).unwrap();
    };
    allow(outside.path());
    let mut driver = Driver::start(&machine, &["--runtime", "docker"]);
    let mount = |more: &str| format!("{}{more}", app.display());
    for (mount, complaint) in [
        (mount(":rw"), "allowReadWrite is false"),
        ("/etc".to_owned(), "belongs to the system"),
        (mount(":a:b"), "one word too many"),
        ("/home".to_owned(), "no allowed root holds"),
    ] {
        driver.submit(&json!({ "prompt": "hi", "mounts": [mount] }));
        let refusal = driver.answer().to_string();
        assert!(refusal.contains(complaint), "{mount}: {refusal}");
    }
    driver.submit(&json!({ "prompt": "hi", "mounts": [mount(":mine")] }));
    let lines = driver.until("done");
    let start = lines.iter().find(|line| line["event"]["type"] == "start");
    let mounts = &start.unwrap()["event"]["isolation"]["mounts"];
    assert_eq!(mounts[0]["target"], "/workspace/extra/mine", "{mounts}");
    assert_eq!(driver.end(), 0);
    assert!(machine.read("bin/calls").contains("/workspace/extra/mine"));
}

/// The queue, as somebody sees it who has the file.
fn queue(machine: &TestMachine) -> rusqlite::Connection {
    let queue = rusqlite::Connection::open(machine.path("state/serve/queue.db")).unwrap();
    queue
        .busy_timeout(std::time::Duration::from_secs(30))
        .unwrap();
    queue
}

/// `serve` dies between two steps of handing a message over: before it may, after
/// the agent has answered, and after it was noted. Each time the agent gets it
/// once.
#[test]
fn a_follow_up_is_delivered_once_whenever_serve_is_killed() {
    for (column, is_answered) in [("file", false), ("delivered", true)] {
        let machine = TestMachine::new("answer");
        let mut driver = Driver::start(&machine, &["--runtime", "docker"]);
        driver.submit(&json!({ "prompt": "one", "group": "g", "stayOpen": true }));
        driver.until("result");
        let stop = format!(
            "CREATE TRIGGER stop BEFORE UPDATE OF {column} ON follow_ups \
             BEGIN SELECT RAISE(FAIL, 'not now'); END"
        );
        queue(&machine).execute_batch(&stop).unwrap();
        let message = json!({ "type": "message", "text": "two" });
        driver.send(&json!({ "send": { "group": "g", "message": message } }));
        if is_answered {
            let lines = driver.until("result");
            assert!(lines.last().unwrap().to_string().contains("\"two\""));
        } else {
            machine.wait_for_file_in("state/groups/g/outbox");
        }
        driver.kill();
        queue(&machine).execute_batch("DROP TRIGGER stop").unwrap();

        let mut driver = Driver::start(&machine, &["--runtime", "docker"]);
        // What the first agent did not get, a second one does; and nobody gets
        // what the first one has.
        if !is_answered {
            let result = driver.until("result").pop().unwrap();
            assert!(result["event"]["result"].to_string().contains("two"));
            driver.send(&json!({ "close": { "id": result["submission"] } }));
            driver.until("done");
        }
        driver.submit(&json!({ "prompt": "last", "group": "g" }));
        let lines = driver.until("result");
        let result = lines.last().unwrap()["event"]["result"].to_string();
        assert!(result.contains("last"), "{column}: {lines:?}");
        driver.until("done");
        assert_eq!(driver.end(), 0);
        machine.assert_nothing_is_left();
    }
}

/// The clock was years ahead, or years behind, when the queue was written.
#[test]
fn a_clock_that_was_wrong_holds_up_nothing_that_waits() {
    const TEN_YEARS: i64 = 10 * 365 * 86_400_000;
    for jump in [TEN_YEARS, -TEN_YEARS] {
        let machine = TestMachine::new("answer");
        let args = ["--runtime", "docker", "--max-runs", "1"];
        let mut driver = Driver::start(&machine, &args);
        driver.submit(&json!({ "prompt": "one", "group": "g", "stayOpen": true }));
        driver.until("result");
        driver.submit(&json!({ "prompt": "two", "group": "g" }));
        driver.until("queued");
        driver.kill();
        let queue = queue(&machine);
        for (table, column) in [
            ("submissions", "created"),
            ("submissions", "due"),
            ("events", "at"),
        ] {
            let sql = format!("UPDATE {table} SET {column} = {column} + ?1");
            assert!(queue.execute(&sql, [jump]).unwrap() > 0);
        }
        drop(queue);
        let mut driver = Driver::start(&machine, &args);
        let lines = driver.until("done");
        let result = lines.iter().find(|line| line["event"]["type"] == "result");
        let result = result.unwrap()["event"]["result"].to_string();
        assert!(result.contains("two"), "{result}");
        assert_eq!(driver.end(), 0);
        machine.assert_nothing_is_left();
    }
}

/// The engine goes away under a run and comes back: the run is a dead letter, its
/// group starts nothing beside what may be left of it, and goes on after that.
#[test]
fn an_engine_that_stops_under_serve_costs_one_run() {
    let machine = TestMachine::new("engine stops");
    let mut driver = Driver::start(&machine, &["--runtime", "docker"]);
    driver.submit(&json!({ "prompt": "one", "group": "g" }));
    let dead = driver.until("dead").pop().unwrap();
    assert_eq!(dead["event"]["class"], "infrastructure", "{dead}");
    assert!(dead["event"]["hint"].is_string(), "{dead}");
    driver.submit(&json!({ "prompt": "two", "group": "g" }));
    driver.until("queued");
    let runs = || {
        let calls = machine.read("bin/calls");
        calls
            .lines()
            .filter(|call| call.starts_with("run "))
            .count()
    };
    assert_eq!(runs(), 1);
    machine.script("answer");
    fs::remove_file(machine.path("bin/down")).unwrap();
    let lines = driver.until("done");
    assert_eq!((count(&lines, "attempt"), runs()), (1, 2), "{lines:?}");
    assert_eq!(driver.end(), 0);
    machine.assert_nothing_is_left();
}

#[test]
fn a_submission_adds_arguments_where_serve_allows_it() {
    let machine = TestMachine::new("answer");
    let submission = json!({ "prompt": "hi", "agentArgs": ["--fallback-model=small"] });
    let mut driver = Driver::start(&machine, &["--runtime", "docker"]);
    driver.submit(&submission);
    let refusal = driver.answer().to_string();
    assert!(refusal.contains("may not add arguments"), "{refusal}");
    let setting = json!({ "prompt": "hi", "settings": { "agent-arg": "-x" } });
    driver.submit(&setting);
    let refusal = driver.answer().to_string();
    assert!(refusal.contains("unknown setting"), "{refusal}");
    assert_eq!(driver.end(), 0);

    let mut driver = Driver::start(&machine, &["--runtime", "docker", "--agent-args"]);
    driver.submit(&json!({ "prompt": "hi", "agentArgs": ["--model=x"] }));
    let refusal = driver.answer().to_string();
    assert!(refusal.contains("is set by drawbridge"), "{refusal}");
    driver.submit(&submission);
    driver.until("done");
    assert!(machine.read("bin/input").contains("--fallback-model=small"));
    assert_eq!(driver.end(), 0);
}
