//! A stand-in for Claude Code that speaks its protocol and misbehaves on demand.
//!
//! Its messages have the form recorded from version 2.1.329.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use serde_json::{Value, json};

const SESSION: &str = "3385aa4e-1111-4f6d-9e1a-000000000001";

pub(crate) fn main(scenario: &str, flags: &[String]) -> ExitCode {
    let mut claude = StandIn::new();
    let resumes = flags.iter().any(|flag| flag.starts_with("--resume="));
    match scenario {
        "polite" => claude.serve(StandIn::turn),
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
        "no-such-session" => claude.serve(StandIn::turn),
        "api-error" => claude.serve(StandIn::api_error),
        "start-failure" => return claude.start_failure(),
        "crash" => return claude.crash(),
        "silent-exit" => {
            claude.next();
            claude.begin();
        }
        "asks" => claude.serve(StandIn::ask_then_reply),
        "others-talk" => claude.serve(StandIn::others_talk),
        "flood" => claude.serve(StandIn::flood),
        "odd-result" => claude.serve(StandIn::odd_result),
        "big-result" => claude.serve(|claude, message| {
            claude.reply(
                message,
                &"---NANOCLAW_OUTPUT_END---\n\0x".repeat(5_000_000 / 28),
            );
        }),
        "grandchild" => {
            let message = claude.next().unwrap();
            claude.turn(&message);
            // The background process inherits the pipes and holds them open.
            let script = "sleep 300 & exit 0";
            Command::new("sh")
                .args(["-c", script])
                .stdin(Stdio::null())
                .status()
                .unwrap();
        }
        "lingers" => {
            claude.serve(StandIn::turn);
            park();
        }
        "unasked" => claude.unasked(),
        "interruptible" => claude.interruptible(),
        "compacts" => claude.compact(),
        "busy" => claude.busy_with_tools(),
        "stuck" => claude.stuck(),
        "initialize" => {
            let request = claude.initialize.clone();
            claude.serve(|claude, message| claude.reply(message, &request.to_string()));
        }
        other => panic!("unknown scenario {other:?}"),
    }
    ExitCode::SUCCESS
}

pub(crate) struct UserMessage {
    uuid: Value,
    text: String,
}

struct StandIn {
    initialize: Value,
    /// Lines that came while it waited for another one.
    backlog: VecDeque<Value>,
    lines: std::io::Lines<std::io::StdinLock<'static>>,
}

impl StandIn {
    fn new() -> Self {
        let mut stand_in = Self {
            initialize: Value::Null,
            backlog: VecDeque::new(),
            lines: std::io::stdin().lines(),
        };
        let first = stand_in.line().expect("a first line");
        assert_eq!(first["request"]["subtype"], "initialize", "must come first");
        assert!(first["request"]["hooks"]["PreCompact"][0]["timeout"].is_u64());
        stand_in.initialize = first["request"].clone();
        stand_in.say(&json!({
            "type": "control_response",
            "response": { "subtype": "success", "request_id": first["request_id"], "response": {} },
        }));
        stand_in
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

    #[expect(clippy::unused_self, reason = "only a stand-in speaks")]
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

    /// Asks what the runner does not know, and waits for each answer.
    fn ask_then_reply(&mut self, message: &UserMessage) {
        let mut answers = Vec::new();
        for request in [
            json!({ "subtype": "hook_callback", "callback_id": "pre_compact", "input": {} }),
            json!({ "subtype": "can_use_tool", "tool_name": "Bash", "input": {} }),
            json!({ "subtype": "from_the_future" }),
        ] {
            self.say(&json!({ "type": "control_request", "request_id": "q", "request": request }));
            let answer = self.line().unwrap();
            assert_eq!(answer["response"]["request_id"], "q");
            answers.push(answer["response"]["subtype"].as_str().unwrap().to_owned());
        }
        self.reply(message, &answers.join(" "));
    }

    /// A subagent, an error in the model's place, noise and unknown types.
    fn others_talk(&mut self, message: &UserMessage) {
        self.begin();
        let text = |text: &str| json!([{ "type": "text", "text": text }]);
        self.say(&json!({
            "type": "assistant", "parent_tool_use_id": "toolu_1",
            "message": { "model": "m", "content": text("a subagent speaks") },
        }));
        self.say(&json!({
            "type": "assistant", "parent_tool_use_id": null,
            "message": { "model": "<synthetic>", "content": text("not the model") },
        }));
        println!("a library's notice");
        println!("{{ not json");
        self.say(&json!({ "type": "from_the_future", "x": [1, 2, 3] }));
        self.say(&json!({ "type": "user", "message": { "content": "plain text" } }));
        self.reply(message, "the answer");
    }

    fn flood(&mut self, message: &UserMessage) {
        self.begin();
        let line = json!({ "type": "system", "subtype": "task_progress", "x": "y".repeat(200) });
        for _ in 0..20_000 {
            self.say(&line);
        }
        let output = "z".repeat(20_000_000);
        self.say(&json!({
            "type": "user",
            "message": { "content": [{ "type": "tool_result", "tool_use_id": "t", "content": output }] },
        }));
        self.turn(message);
    }

    /// A result with a lone surrogate, NUL and invalid UTF-8.
    fn odd_result(&mut self, message: &UserMessage) {
        self.begin();
        let mut line =
            br#"{"type":"result","subtype":"success","is_error":false,"result":"a\ud800b\u0000c"#
                .to_vec();
        line.extend_from_slice(b"\xff\"}\n");
        raw_stdout().write_all(&line).unwrap();
        self.lifecycle(message, "completed");
        self.state("idle");
    }

    /// A background task starts a turn of its own.
    fn unasked(&mut self) {
        let message = self.next().unwrap();
        self.turn(&message);
        self.begin();
        self.result("the background task is done");
        self.state("idle");
        self.serve(Self::turn);
    }

    /// The first turn runs until it is interrupted.
    fn interruptible(&mut self) {
        let message = self.next().unwrap();
        self.lifecycle(&message, "started");
        self.begin();
        loop {
            let line = self.line().unwrap();
            if line["request"]["subtype"] == "interrupt" {
                break;
            }
            self.backlog.push_back(line);
        }
        self.say(&json!({
            "type": "result", "subtype": "error_during_execution", "is_error": true,
            "terminal_reason": "aborted_streaming", "errors": [],
        }));
        self.lifecycle(&message, "cancelled");
        self.state("idle");
        self.serve(Self::turn);
    }
}

impl StandIn {
    /// After a turn it is told to compact, asks the hook, and waits for it.
    fn compact(&mut self) {
        let message = self.next().unwrap();
        self.turn(&message);
        let line = loop {
            let line = self.line().unwrap();
            if line["type"] == "user" {
                break line;
            }
        };
        assert_eq!(
            line["client_composed"],
            Value::Null,
            "a command of the runner"
        );
        let command = line["message"]["content"].as_str().unwrap().to_owned();
        self.state("running");
        self.say(&json!({ "type": "system", "subtype": "status", "status": "compacting" }));
        let transcript = std::env::current_dir().unwrap().join("transcript.jsonl");
        std::fs::write(
            &transcript,
            "{\"type\":\"user\",\"message\":{\"content\":\"remember this\"}}\n",
        )
        .unwrap();
        self.say(&json!({
            "type": "control_request", "request_id": "hook",
            "request": {
                "subtype": "hook_callback", "callback_id": "pre_compact",
                "input": { "transcript_path": transcript, "session_id": SESSION },
            },
        }));
        let answer = self.line().unwrap();
        assert_eq!(answer["response"]["request_id"], "hook");
        self.init();
        self.result(&format!("did {command}"));
        self.state("idle");
        self.serve(Self::turn);
    }

    /// A turn with text, a tool, a retry and a compaction on the way.
    fn busy_with_tools(&mut self) {
        let message = self.next().unwrap();
        self.begin();
        let content = json!([
            { "type": "text", "text": "let me see" },
            { "type": "tool_use", "id": "t1", "name": "Bash", "input": { "timeout": 5000 } },
        ]);
        self.say(&json!({
            "type": "assistant", "parent_tool_use_id": null,
            "message": { "model": "m", "content": content },
        }));
        let go_on = self.next().unwrap();
        let result = json!([{ "type": "tool_result", "tool_use_id": "t1", "content": "x" }]);
        self.say(&json!({ "type": "user", "message": { "content": result } }));
        self.say(&json!({
            "type": "system", "subtype": "api_retry", "attempt": 1, "error": "overloaded",
        }));
        self.say(&json!({ "type": "system", "subtype": "status", "status": "compacting" }));
        self.lifecycle(&go_on, "completed");
        self.reply(&message, "done");
        self.serve(Self::turn);
    }

    /// Says nothing any more, whatever it is asked.
    fn stuck(&mut self) {
        self.next();
        self.begin();
        while self.line().is_some() {}
        park();
    }
}

fn raw_stdout() -> std::fs::File {
    OpenOptions::new()
        .write(true)
        .open("/proc/self/fd/1")
        .unwrap()
}

/// Ignores the end of input and SIGTERM.
fn park() {
    use std::os::unix::process::CommandExt;
    let error = Command::new("sh")
        .args(["-c", "trap '' TERM; exec sleep 300"])
        .exec();
    panic!("{error}");
}
