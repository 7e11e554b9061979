//! A person at a terminal, and how long a run may say nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use drawbridge_testkit::Ended;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;

use super::TestMachine;

/// The two ends of a terminal: the one a person types at, and the program's.
fn terminal() -> (File, File) {
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keyboard).unwrap();
    unlockpt(&keyboard).unwrap();
    let name = ptsname(&keyboard, Vec::new()).unwrap();
    let screen = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (keyboard.into(), screen.into())
}

/// The next line is the answer, and Ctrl-D ends the conversation.
#[test]
fn a_question_is_answered_at_the_terminal() {
    let question = json!({
        "type": "ask_user", "chatJid": "g@drawbridge", "question": "Which?",
        "options": ["red", "blue"], "timeoutSeconds": 60
    });
    let machine = TestMachine::asking(&[question]);
    let (mut keyboard, screen) = terminal();
    let mut command = machine.command(&["run", "--prompt", "hi", "--group", "g"]);
    command.stdin(Stdio::from(screen));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The terminal is at its end when nobody but the program has it.
    drop(command);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut told = Vec::new();
    while told.last().is_none_or(|line| line != "  - blue") {
        told.push(lines.next().unwrap().unwrap());
    }
    assert!(
        told.iter().any(|line| line == "the agent asks: Which?"),
        "{told:?}"
    );
    keyboard.write_all(b"the blue one\n").unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let answer = out.next().unwrap().unwrap();
    assert_eq!(
        answer,
        json!({"ok": true, "text": "the blue one"}).to_string()
    );
    keyboard.write_all(b"and more\n").unwrap();
    assert_eq!(out.next().unwrap().unwrap(), "and more");
    keyboard.write_all(b"\x04").unwrap();
    assert!(child.wait().unwrap().success());
    machine.assert_nothing_is_left();
}

/// Who works is not idle, whether or not anybody looks on.
#[test]
fn progress_is_life_in_every_mode() {
    let machine = TestMachine::new("work on");
    let limit = ["--idle-timeout", "1s"];
    let json = machine.run(&[&limit[..], &["--json"]].concat());
    let person = machine.run(&limit);
    let code = |ended: &Ended| ended.code;
    assert_eq!((code(&json), code(&person)), (0, 0), "{json:?} {person:?}");
    assert_eq!(person.out, "hi (session none)\n", "{person:?}");
    machine.script("never answer");
    for args in [&limit[..], &[&limit[..], &["--json"]].concat()] {
        machine.run(args).assert_error(5, "");
    }
    machine.assert_nothing_is_left();
}
