//! A fake of Claude Code that speaks its protocol and misbehaves on demand.
//!
//! Its messages have the form recorded from version 2.1.329.

mod scenes;

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::noise;

pub(crate) const SESSION: &str = "3385aa4e-1111-4f6d-9e1a-000000000001";

/// Both markers and a NUL, of which a large result consists.
pub(crate) const BIG_RESULT: &str =
    "---NANOCLAW_OUTPUT_START---\n{}\n---NANOCLAW_OUTPUT_END---\n\0x";
pub(crate) const BIG_RESULT_TIMES: usize = 5_000_000 / BIG_RESULT.len() + 1;

pub(crate) fn main(scenario: &str, flags: &[String]) -> ExitCode {
    if scenario == "silent-start" {
        noise::silence();
    }
    let mut claude = FakeClaude::new();
    let resumes = flags.iter().any(|flag| flag.starts_with("--resume="));
    match scenario {
        "polite" => claude.serve(FakeClaude::turn),
        "flags" => claude.serve(|claude, message| claude.reply(message, &flags.join("\n"))),
        "environment" => claude.serve(|claude, message| {
            let vars: Vec<_> = std::env::vars().map(|(k, v)| format!("{k}={v}")).collect();
            claude.reply(message, &vars.join("\n"));
        }),
        // As versions before 2.1.197: no states, no receipts.
        "old" => claude.serve(|claude, message| {
            claude.init();
            claude.result(&format!("Reply to: {}", message.text));
        }),
        "folds" => claude.fold(),
        "no-such-session" if resumes => return claude.no_such_session(),
        "no-such-session" => claude.serve(FakeClaude::turn),
        "api-error" => claude.serve(FakeClaude::api_error),
        "start-failure" => return claude.start_failure(),
        "crash" => return claude.crash(),
        "silent-exit" => {
            claude.next();
            claude.begin();
        }
        "initialize" => {
            let request = claude.initialize.clone();
            claude.serve(|claude, message| claude.reply(message, &request.to_string()));
        }
        other => scenes::play(&mut claude, other),
    }
    ExitCode::SUCCESS
}

pub(crate) struct UserMessage {
    uuid: Value,
    text: String,
}

struct FakeClaude {
    initialize: Value,
    /// Lines that came while it waited for another one.
    backlog: VecDeque<Value>,
    lines: std::io::Lines<std::io::StdinLock<'static>>,
}

impl FakeClaude {
    fn new() -> Self {
        let mut fake = Self {
            initialize: Value::Null,
            backlog: VecDeque::new(),
            lines: std::io::stdin().lines(),
        };
        let first = fake.line().expect("a first line");
        assert_eq!(first["request"]["subtype"], "initialize", "must come first");
        assert!(first["request"]["hooks"]["PreCompact"][0]["timeout"].is_u64());
        fake.initialize = first["request"].clone();
        fake.say(&json!({
            "type": "control_response",
            "response": { "subtype": "success", "request_id": first["request_id"], "response": {} },
        }));
        fake
    }

    fn line(&mut self) -> Option<Value> {
        let line = self.lines.next()?.unwrap();
        Some(serde_json::from_str(&line).unwrap())
    }

    /// The next user message; it is noted, and its receipt is `queued`.
    fn next(&mut self) -> Option<UserMessage> {
        loop {
            let line = match self.backlog.pop_front() {
                Some(line) => line,
                None => self.line()?,
            };
            if line["type"] != "user" {
                continue;
            }
            assert_eq!(
                line["client_composed"], true,
                "chat text is not interpreted"
            );
            let text = line["message"]["content"].as_str().unwrap().to_owned();
            let mut log = OpenOptions::new()
                .create(true)
                .append(true)
                .open("received.log")
                .unwrap();
            log.write_all(format!("{}\n", json!(text)).as_bytes())
                .unwrap();
            return Some(UserMessage {
                uuid: line["uuid"].clone(),
                text,
            });
        }
    }

    fn serve(&mut self, turn: impl Fn(&mut Self, &UserMessage)) {
        while let Some(message) = self.next() {
            turn(self, &message);
        }
    }

    #[expect(clippy::unused_self, reason = "only the fake speaks")]
    fn say(&self, line: &Value) {
        println!("{line}");
    }

    fn state(&self, state: &str) {
        self.say(&json!({ "type": "system", "subtype": "session_state_changed", "state": state }));
    }

    fn lifecycle(&self, message: &UserMessage, state: &str) {
        self.say(&json!({
            "type": "command_lifecycle", "command_uuid": message.uuid, "state": state,
        }));
    }

    fn init(&self) {
        self.say(&json!({
            "type": "system", "subtype": "init", "session_id": SESSION, "tools": [],
            "mcp_servers": [{ "name": "broken", "status": "failed" }],
            "claude_code_version": "2.1.329",
        }));
    }

    fn begin(&self) {
        self.state("running");
        self.init();
    }

    fn result(&self, text: &str) {
        self.say(&json!({
            "type": "result", "subtype": "success", "is_error": false, "result": text,
            "num_turns": 1, "total_cost_usd": 0.5, "session_id": SESSION,
            "usage": { "input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 3 },
        }));
    }

    fn reply(&self, message: &UserMessage, text: &str) {
        self.lifecycle(message, "queued");
        self.lifecycle(message, "started");
        self.begin();
        self.result(text);
        self.lifecycle(message, "completed");
        self.state("idle");
    }

    fn turn(&mut self, message: &UserMessage) {
        self.reply(message, &format!("Reply to: {}", message.text));
    }

    /// The second message is folded into the turn of the first.
    fn fold(&mut self) {
        let first = self.next().unwrap();
        self.lifecycle(&first, "started");
        self.begin();
        let second = self.next().unwrap();
        self.lifecycle(&second, "started");
        self.lifecycle(&second, "completed");
        self.result(&format!("Reply to: {} and {}", first.text, second.text));
        self.lifecycle(&first, "completed");
        self.state("idle");
        self.serve(Self::turn);
    }

    fn no_such_session(&mut self) -> ExitCode {
        self.next();
        self.say(&json!({
            "type": "result", "subtype": "error_during_execution", "is_error": true,
            "errors": ["No conversation found with session ID: 0000"], "num_turns": 0,
        }));
        ExitCode::FAILURE
    }

    fn api_error(&mut self, message: &UserMessage) {
        self.lifecycle(message, "started");
        self.begin();
        self.say(&json!({
            "type": "assistant", "parent_tool_use_id": null, "error": "authentication_failed",
            "message": { "model": "<synthetic>", "content": [{ "type": "text", "text": "401" }] },
        }));
        self.say(&json!({
            "type": "result", "subtype": "success", "is_error": true, "api_error_status": 401,
            "result": "Failed to authenticate. API Error: 401 bad key", "num_turns": 1,
        }));
        self.lifecycle(message, "cancelled");
        self.state("idle");
    }

    fn start_failure(&mut self) -> ExitCode {
        self.next();
        self.say(&json!({
            "type": "result", "subtype": "error_during_execution", "is_error": true,
            "startup_failure_reason": "bypass_root", "errors": [],
        }));
        ExitCode::FAILURE
    }

    fn crash(&mut self) -> ExitCode {
        self.next();
        self.begin();
        for number in 0..10_000 {
            eprintln!("trace line {number}");
        }
        ExitCode::from(42)
    }
}
