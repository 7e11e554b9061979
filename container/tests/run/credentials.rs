//! A credential that no request could carry: nothing is started with it.

use std::fs;

use drawbridge_testkit::{Ended, Program};
use serde_json::json;

use super::TestMachine;
use super::serve::Driver;

/// Obvious fakes.
const IN_TWO_LINES: &str = "sk-ant-fake\nCANARY-0123456789";
const NOT_ASCII: &str = "sk-ant-fake\u{e4}CANARY-0123456789";
const REASON: &str = "is not a credential: character 12 is not a printable ASCII character";

/// A route whose key is in the file `key` of the working directory.
const FROM_A_FILE: &str = "[[route]]\npreset = \"anthropic\"\n\
                           credential = { source = \"file\", path = \"key\" }\n";

impl TestMachine {
    /// Runs the program with this key in its environment, or with none.
    fn with_key(&self, key: Option<&str>, args: &[&str]) -> Ended {
        let mut command = self.command(args);
        match key {
            Some(key) => command.env("ANTHROPIC_API_KEY", key),
            None => command.env_remove("ANTHROPIC_API_KEY"),
        };
        Program::run(&mut command)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path("cwd").join(name), text).unwrap();
    }

    #[track_caller]
    fn assert_containers_started(&self, expected: usize) {
        let calls = fs::read_to_string(self.path("bin/calls")).unwrap_or_default();
        let runs = calls.lines().filter(|call| call.starts_with("run "));
        assert_eq!(runs.count(), expected, "{calls}");
        self.assert_nothing_is_left();
    }
}

#[track_caller]
fn assert_refused(ended: &Ended) {
    ended.assert_error(3, REASON);
    ended.assert_error(3, "\nhint: set it again");
    let all = [ended.out.as_str(), &ended.err].concat();
    assert!(!all.contains("CANARY"), "{all}");
}

#[test]
fn a_credential_that_no_request_could_carry_starts_nothing() {
    let run = ["run", "--prompt", "hi"];
    let machine = TestMachine::new("answer");
    for key in [IN_TWO_LINES, NOT_ASCII] {
        assert_refused(&machine.with_key(Some(key), &run));
    }
    for key in [" sk-ant-fake-CANARY", "sk-ant-fake-CANARY "] {
        let ended = machine.with_key(Some(key), &run);
        ended.assert_error(3, "it starts or ends with a space");
    }
    machine.write(".env", &format!("ANTHROPIC_API_KEY={NOT_ASCII}\n"));
    assert_refused(&machine.with_key(None, &run));
    machine.write("drawbridge.toml", FROM_A_FILE);
    machine.write("key", IN_TWO_LINES);
    assert_refused(&machine.run(&[]));
    machine.assert_containers_started(0);
}

#[test]
fn programs_are_told_that_nothing_was_started() {
    let machine = TestMachine::new("answer");
    let args = ["run", "--json", "--prompt", "hi"];
    let ended = machine.with_key(Some(IN_TWO_LINES), &args);
    assert_refused(&ended);
    let events = ended.events();
    let [exit] = &events[..] else {
        panic!("more than the end: {events:?}");
    };
    assert_eq!(
        (&exit["type"], &exit["class"]),
        (&json!("exit"), &json!("not-started"))
    );
    machine.assert_containers_started(0);
}

#[test]
fn serve_starts_neither_itself_nor_a_run_with_it() {
    let machine = TestMachine::new("answer");
    // Its standard input is at its end, so that it would end at once.
    assert_refused(&machine.with_key(Some(NOT_ASCII), &["serve", "--stdio"]));
    machine.write("drawbridge.toml", FROM_A_FILE);
    machine.write("key", "sk-ant-fake\n");
    let mut driver = Driver::start(&machine, &["--max-attempts", "1"]);
    driver.submit(&json!({ "prompt": "hi", "group": "g" }));
    driver.until("done");
    machine.write("key", IN_TWO_LINES);
    driver.submit(&json!({ "prompt": "hi", "group": "g" }));
    let end = driver.until_one_of(&["dead", "done"]).pop().unwrap();
    let dead = &end["event"];
    assert_eq!(
        (&dead["class"], &dead["code"]),
        (&json!("never-started"), &json!(3))
    );
    assert!(dead["error"].to_string().contains(REASON), "{dead}");
    assert!(dead["hint"].is_string(), "{dead}");
    assert_eq!(driver.end(), 0);
    machine.assert_containers_started(1);
}

#[test]
fn the_doctor_tells_what_is_wrong_with_it() {
    let machine = TestMachine::new("stopped");
    let ended = machine.with_key(Some(IN_TWO_LINES), &["doctor"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    let line = ended.out.lines().find(|line| line.contains(" credential "));
    let line = line.unwrap();
    assert!(line.contains("FAIL") && line.contains(REASON), "{ended:?}");
    assert!(ended.out.contains("hint: set it again"), "{ended:?}");
    assert!(!ended.out.contains("CANARY"), "{ended:?}");
}
