//! An agent of any protocol that does what its seed says.

mod claude;
mod rpc;

use std::fs::OpenOptions;
use std::io::{BufRead, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

/// Arguments: protocol, seed, number of the run, mode; then the runner's own.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let [protocol, seed, run, mode, flags @ ..] = args else {
        panic!("{args:?}");
    };
    let run: u64 = run.parse().unwrap();
    // Each process of a run has modes of its own.
    let starts = notes() + 1;
    let process = format!("{}.{starts}", std::process::id());
    note(&json!({"start": run, "process": process}));
    let seed: u64 = seed.parse().unwrap();
    let mut agent = Agent {
        rng: Rng::with_seed(seed ^ (starts << 32)),
        run,
        process,
        is_calm: mode == "calm",
        may_leave_children: mode == "wild",
        lines: if protocol == "command" {
            channel().1
        } else {
            lines()
        },
        answers: 0,
    };
    match protocol.as_str() {
        "claude" => claude::serve(&mut agent, flags),
        "command" => agent.answer_once(),
        protocol => rpc::serve(&mut agent, protocol == "codex"),
    }
    note(&json!({"clean": agent.process, "run": run}));
    ExitCode::SUCCESS
}

pub(crate) struct Agent {
    rng: Rng,
    run: u64,
    /// Names this process in the log.
    process: String,
    is_calm: bool,
    may_leave_children: bool,
    lines: Receiver<Value>,
    answers: u32,
}

/// What came while a turn ran.
enum Came {
    Nothing,
    Line(Value),
    End,
}

impl Agent {
    /// The next line; `None` at the end of input.
    fn line(&self) -> Option<Value> {
        self.lines.recv().ok()
    }

    /// What comes within a random while.
    fn meanwhile(&mut self) -> Came {
        let most = if self.is_calm { 2 } else { 25 };
        let while_ = Duration::from_millis(self.rng.u64(0..most));
        match self.lines.recv_timeout(while_) {
            Ok(line) => Came::Line(line),
            Err(RecvTimeoutError::Timeout) => Came::Nothing,
            Err(RecvTimeoutError::Disconnected) => Came::End,
        }
    }

    fn chance(&mut self, of: u32) -> bool {
        !self.is_calm && self.rng.u32(0..of) == 0
    }

    /// Notes that the conversation has these texts for good.
    fn keep(&self, text: &str) {
        for line in text.lines() {
            note(&json!({"text": line, "run": self.run, "process": self.process}));
        }
    }

    /// A text that no other answer has.
    fn answer(&mut self) -> String {
        self.answers += 1;
        format!("answer {} of {}", self.answers, self.process)
    }

    /// Notes that an answer was written.
    fn answered(&self, answer: &str) {
        note(&json!({"answer": answer, "run": self.run, "process": self.process}));
    }

    /// A point at which anything may happen.
    fn quirk(&mut self) {
        if self.is_calm {
            return;
        }
        match self.rng.u32(0..200) {
            0 | 1 => leave(3),
            2 => leave(0),
            3 => {
                say("{\"type\":\"result\",\"meth");
                leave(9)
            }
            4 => loop {
                // Whatever comes, the end of input included.
                std::thread::park();
            },
            5 => {
                for number in 0..200 {
                    say(&format!("{{\"type\":\"noise\",\"n\":{number}}}\nno json\n"));
                }
            }
            6 if self.may_leave_children => {
                // Through a shell, so that nobody here has to wait for it.
                let mut shell = Command::new("sh");
                shell.args(["-c", "sleep 1000 &"]).stdin(Stdio::null());
                shell.status().unwrap();
            }
            7..30 => {
                self.meanwhile_nothing();
            }
            _ => {}
        }
    }

    /// Pauses without reading.
    fn meanwhile_nothing(&mut self) {
        let (_nobody, never) = channel::<()>();
        let pause = Duration::from_millis(self.rng.u64(0..20));
        never.recv_timeout(pause).unwrap_err();
    }

    /// The `command` agent: one message, one answer.
    fn answer_once(&mut self) {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).unwrap();
        self.keep(&text);
        self.quirk();
        let answer = self.answer();
        say(&format!("{answer}\n"));
        self.answered(&answer);
        if self.chance(8) {
            leave(3);
        }
    }
}

/// Writes to standard output at once.
#[expect(clippy::disallowed_methods, reason = "standard output is the protocol")]
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // The runner may be gone.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn say_line(line: &Value) {
    say(&format!("{line}\n"));
}

#[expect(clippy::exit, reason = "an agent that crashes does not tidy up")]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}

const LOG: &str = "log";

/// Adds a line to the log in the workspace, in one write so that a kill leaves
/// it whole.
fn note(line: &Value) {
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(LOG)
        .unwrap();
    log.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// How many lines the log has so far.
fn notes() -> u64 {
    let log = std::fs::read_to_string(LOG).unwrap_or_default();
    log.lines().count() as u64
}

/// Lines of standard input, read on a thread of their own.
fn lines() -> Receiver<Value> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let line = serde_json::from_str(&line.unwrap()).unwrap();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
