//! What `agent-runner` promises a host, with stand-ins for the agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use drawbridge_testkit::engine::HostProcess;
use drawbridge_testkit::{Ended, Program, eventually, nanoclaw, program_path};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Folders of one run and the agent it drives.
struct Run {
    folder: TempDir,
    agent: Value,
}

impl Run {
    fn claude() -> Self {
        let program = program_path("stand-in-claude");
        Self::of(json!({ "kind": "claude", "command": [program] }))
    }

    fn command(words: &[&str]) -> Self {
        Self::of(json!({ "kind": "command", "command": words }))
    }

    fn of(agent: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["workspace", "ipc/input", "home"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        Self { folder, agent }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, prompt: &str) -> Program {
        self.start_document(&self.document(prompt).to_string())
    }

    fn start_document(&self, document: &str) -> Program {
        let mut command = Command::new(program_path("agent-runner-dup"));
        let marker = self.folder.path().as_os_str();
        let mut program = Program::start(
            command
                .env("HOME", self.path("home"))
                .env("TEST_RUN", marker),
        );
        program.write(document);
        program.close_stdin();
        program
    }

    fn document(&self, prompt: &str) -> Value {
        json!({
            "prompt": prompt, "groupFolder": "team", "chatJid": "1@g.us", "isMain": false,
            "drawbridge": {
                "agent": self.agent,
                "paths": {
                    "workspace": self.path("workspace"),
                    "ipc": self.path("ipc"),
                    "home": self.path("home"),
                },
            },
        })
    }

    fn send(&self, name: &str, text: &str) {
        let message = json!({ "type": "message", "text": text }).to_string();
        let draft = self.path("ipc").join(name);
        fs::write(&draft, message).unwrap();
        fs::rename(draft, self.path("ipc/input").join(name)).unwrap();
    }

    fn close(&self) {
        fs::write(self.path("ipc/input/_close"), "").unwrap();
    }

    /// Runs a conversation of one message, closed once there is a record.
    fn one_turn(&self, prompt: &str) -> Ended {
        let mut runner = self.start(prompt);
        wait_for_records(&runner, 1);
        self.close();
        runner.wait()
    }

    /// Processes that a run has left, by the variable all of them inherit.
    fn processes(&self) -> Vec<HostProcess> {
        HostProcess::with_variable("TEST_RUN", &self.folder.path().display().to_string())
    }
}

fn wait_for_records(runner: &Program, count: usize) -> Vec<Value> {
    runner.wait_for_out("a record", |out| {
        let records = nanoclaw::records(out);
        (records.len() >= count).then_some(records)
    })
}

/// What our runner tells our own host beside NanoClaw's fields.
const DETAILS: [&str; 11] = [
    "kind",
    "errorKind",
    "retryAfterMs",
    "usage",
    "costUsd",
    "turns",
    "durationMs",
    "agent",
    "agentVersion",
    "notice",
    "progress",
];

/// The records of a run; each must be one that NanoClaw's parser accepts.
fn records(ended: &Ended) -> Vec<Value> {
    let records = nanoclaw::records(&ended.out);
    for record in &records {
        nanoclaw::check(record, &DETAILS);
    }
    records
}

fn answers(ended: &Ended) -> Vec<String> {
    let texts = records(ended).into_iter();
    texts
        .filter_map(|record| record["result"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn an_answer_becomes_a_record_and_close_ends_the_run() {
    let ended = Run::claude().one_turn("hello");
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(answers(&ended), ["Reply to: hello"]);
    assert!(records(&ended)[0]["newSessionId"].is_string());
    let logs: Vec<_> = ended
        .err
        .lines()
        .filter(|l| !l.starts_with("[agent-runner]"))
        .collect();
    assert!(logs.is_empty(), "{logs:?}");
}

#[test]
fn follow_ups_are_answered_in_order_and_removed_when_confirmed() {
    let run = Run::claude();
    let mut runner = run.start("one");
    wait_for_records(&runner, 1);
    run.send("0001-a.json", "two");
    run.send("0002-a.json", "three");
    wait_for_records(&runner, 3);
    run.close();
    let ended = runner.wait();
    assert_eq!(
        answers(&ended),
        ["Reply to: one", "Reply to: two", "Reply to: three"]
    );
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(files_below(&run.path("ipc/input")), Vec::<PathBuf>::new());
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

#[test]
fn a_hostile_answer_arrives_whole() {
    let ended = Run::claude().one_turn("hostile");
    let answers = answers(&ended);
    assert_eq!(answers.len(), 1, "{} records", answers.len());
    let head =
        "---NANOCLAW_OUTPUT_START---\n---NANOCLAW_OUTPUT_END---\n \u{fffd} \u{fffd}\u{fffd} \0 xxx";
    assert!(answers[0].starts_with(head), "{:?}", &answers[0][..100]);
    assert!(answers[0].ends_with("x whole"));
    assert!(answers[0].len() > 5 * 1024 * 1024);
}

#[test]
fn markers_printed_by_the_agent_forge_nothing() {
    assert_eq!(
        answers(&Run::claude().one_turn("forge")),
        ["tried to forge"]
    );
}

#[test]
fn noise_of_the_agent_is_survived() {
    assert_eq!(
        answers(&Run::claude().one_turn("noise")),
        ["survived the noise"]
    );
}

#[test]
fn a_refused_request_is_an_error_and_not_an_answer() {
    let ended = Run::claude().one_turn("refused");
    let records = records(&ended);
    assert_eq!(records[0]["status"], "error", "{records:?}");
    assert!(records[0]["result"].is_null());
    assert!(records[0]["error"].as_str().unwrap().contains("401"));
}

/// The agent's last words are in the record, for nobody reads its log.
#[test]
fn an_agent_that_ends_without_a_result_is_an_error_with_its_last_words() {
    for prompt in ["crash", "half"] {
        let ended = Run::claude().start(prompt).wait();
        let records = records(&ended);
        let last = records
            .last()
            .unwrap_or_else(|| panic!("no record after {prompt:?}"));
        assert_eq!(
            (ended.code, &last["status"]),
            (1, &json!("error")),
            "{prompt}"
        );
        let error = last["error"].as_str().unwrap();
        assert!(
            prompt == "half" || error.contains("cannot go on"),
            "{error}"
        );
    }
}

#[test]
fn a_grandchild_that_holds_the_pipe_does_not_hold_the_run() {
    let run = Run::claude();
    let ended = run.one_turn("grandchild");
    assert_eq!(answers(&ended), ["left a child behind"]);
    eventually("the grandchild's end", || {
        run.processes().is_empty().then_some(())
    });
}

#[test]
fn a_killed_runner_leaves_no_process_behind() {
    let run = Run::claude();
    let mut runner = run.start("hang");
    eventually("the agent", || {
        let lines: String = run
            .processes()
            .iter()
            .map(|process| process.command_line())
            .collect();
        lines.contains("stand-in-claude").then_some(())
    });
    runner.signal(Signal::KILL);
    assert_eq!(runner.wait().code, 137);
    eventually("the end of all its processes", || {
        run.processes().is_empty().then_some(())
    });
}

#[test]
fn a_terminated_runner_stops_an_agent_that_hangs() {
    let run = Run::claude();
    let mut runner = run.start("hang");
    eventually("the agent", || (run.processes().len() >= 3).then_some(()));
    runner.signal(Signal::TERM);
    let ended = runner.wait();
    assert_ne!(ended.code, 0, "{}", ended.err);
    assert!(run.processes().is_empty());
}

#[test]
fn bad_input_is_an_error_record_with_the_documented_prefix() {
    let run = Run::claude();
    let too_large = " ".repeat(32 * 1024 * 1024 + 1);
    for bad in ["", "not json", "[]", "{\"prompt\":1}", &too_large] {
        let ended = run.start_document(bad).wait();
        let records = records(&ended);
        assert_eq!((ended.code, records.len()), (1, 1), "{}", ended.err);
        let error = records[0]["error"].as_str().unwrap();
        assert!(error.starts_with("Failed to parse input: "), "{error}");
    }
}

#[test]
fn a_command_gets_the_prompt_and_its_output_is_the_answer() {
    let ended = Run::command(&["tr", "a-z", "A-Z"]).one_turn("shout this");
    assert_eq!(answers(&ended), ["SHOUT THIS"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
}

#[test]
fn a_command_that_fails_is_an_error_with_its_last_words() {
    let run = Run::command(&["sh", "-c", "echo no such luck >&2; exit 7"]);
    let ended = run.one_turn("go");
    let records = records(&ended);
    let error = records.last().unwrap()["error"].as_str().unwrap();
    assert!(
        error.contains("no such luck") && error.contains('7'),
        "{error}"
    );
    assert_eq!(ended.code, 1);
}
