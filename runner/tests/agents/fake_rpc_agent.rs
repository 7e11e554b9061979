//! A fake of Codex (`codex-*`) and for an ACP agent (`acp-*`) that
//! misbehaves on demand. Its messages have the form recorded from Codex 0.169.0,
//! opencode 1.18.33 and Gemini CLI 0.61.0.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use serde_json::{Value, json};

use crate::noise;

pub(crate) const SESSION: &str = "01a1fbbd-d35a-7232-ba32-000000000001";

pub(crate) fn main(scenario: &str, flags: &[String]) -> ExitCode {
    let (protocol, scenario) = scenario.split_once('-').unwrap();
    let mut agent = FakeAgent {
        is_codex: protocol == "codex",
        scenario: scenario.to_owned(),
        flags: flags.join("\n"),
        lines: std::io::stdin().lines(),
        turns: 0,
    };
    agent.serve()
}

struct FakeAgent {
    is_codex: bool,
    scenario: String,
    flags: String,
    lines: std::io::Lines<std::io::StdinLock<'static>>,
    turns: u64,
}

impl FakeAgent {
    fn line(&mut self) -> Option<Value> {
        let line = self.lines.next()?.unwrap();
        Some(serde_json::from_str(&line).unwrap())
    }

    fn serve(&mut self) -> ExitCode {
        while let Some(message) = self.line() {
            let id = &message["id"];
            let params = &message["params"];
            match message["method"].as_str().unwrap_or_default() {
                "initialize" if self.scenario == "dies" => {
                    eprintln!("no licence");
                    return ExitCode::from(3);
                }
                "initialize" if self.scenario == "silent-start" => noise::silence(),
                "initialize" => self.answer(id, &self.hello()),
                "thread/start" => self.answer(id, &json!({"thread": {"id": SESSION}})),
                "session/new" => self.answer(id, &json!({"sessionId": SESSION})),
                "thread/resume" | "session/load" if self.scenario == "forgetful" => {
                    let words = "no rollout found for thread id";
                    self.refuse(id, words, &Value::Null);
                }
                "thread/resume" => self.answer(id, &json!({"thread": {"id": params["threadId"]}})),
                "session/load" => self.load(id),
                "turn/start" | "session/prompt" => {
                    if let Some(end) = self.turn(id, params) {
                        return end;
                    }
                }
                "turn/interrupt" | "turn/steer" => self.refuse(id, "no active turn", &Value::Null),
                _ => {}
            }
        }
        ExitCode::SUCCESS
    }

    fn hello(&self) -> Value {
        if self.is_codex {
            return json!({"userAgent": "drawbridge/0.169.0 (Debian; x86_64)", "codexHome": "/"});
        }
        json!({"protocolVersion": 1, "agentInfo": {"name": "fake", "version": "7.8.9"},
               "agentCapabilities": {"loadSession": true}})
    }

    /// The conversation so far is told again, by Gemini CLI also after the answer.
    fn load(&self, id: &Value) {
        self.chunk("a text of the earlier run");
        self.answer(id, &Value::Null);
        self.chunk("another text of the earlier run");
    }

    /// Plays one turn; `Some` when the process is to end in it.
    fn turn(&mut self, id: &Value, params: &Value) -> Option<ExitCode> {
        self.turns += 1;
        let mut texts = texts(params);
        note(&texts);
        if self.is_codex {
            self.answer(
                id,
                &json!({"turn": self.shape(&json!("inProgress"), &Value::Null)}),
            );
            self.say("turn/started", &json!({"turn": {"id": self.turn_id()}}));
            self.user_item(params);
        }
        match self.scenario.as_str() {
            "crash" => {
                eprintln!("out of memory");
                return Some(ExitCode::from(9));
            }
            "unauthorized" => {
                self.fail(id);
                return None;
            }
            "waits" | "waits-for-retry" if self.turns == 1 => match self.wait_in_turn() {
                Waited::Stopped => {
                    if self.scenario == "waits-for-retry" && !self.is_codex {
                        // As opencode ends a turn in which it tried a broken call
                        // again when it was stopped.
                        self.chunk("half");
                        let usage = json!({"inputTokens": 0, "outputTokens": 0});
                        self.answer(id, &json!({"stopReason": "end_turn", "usage": usage}));
                    } else {
                        self.end(id, "interrupted", "cancelled");
                    }
                    return None;
                }
                Waited::Steered(more) => texts.extend(more),
                Waited::Closed => return Some(ExitCode::SUCCESS),
            },
            // Deaf to everything, as long as its input is open.
            "late" => return Some(self.end_late(id)),
            "deaf" if texts.contains(&"one".to_owned()) => {
                self.chunk("on my way");
                return Some(self.be_deaf());
            }
            "deaf-from-the-start" => return Some(self.be_deaf()),
            "asks" => self.ask(),
            "result-first" => self.end_another_turn(),
            "flood" => flood(),
            "grandchild" => {
                let mut shell = Command::new("sh");
                let script = shell
                    .args(["-c", "sleep 300 & exit 0"])
                    .stdin(Stdio::null());
                script.status().unwrap();
            }
            scenario => {
                if let Some(kind) = scenario.strip_prefix("noise-") {
                    noise::make(kind);
                }
            }
        }
        self.tool_and_answer(&texts);
        self.end(id, "completed", "end_turn");
        None
    }

    fn be_deaf(&mut self) -> ExitCode {
        while self.line().is_some() {}
        ExitCode::SUCCESS
    }

    /// Ends its turn, but only when its input has.
    fn end_late(&mut self, id: &Value) -> ExitCode {
        let code = self.be_deaf();
        self.end(id, "interrupted", "cancelled");
        code
    }

    /// Reports the end of a turn that nobody has begun.
    fn end_another_turn(&self) {
        if self.is_codex {
            let turn = json!({"id": "turn-99", "items": [], "status": "completed"});
            let params = json!({"threadId": SESSION, "turn": turn});
            self.say("turn/completed", &params);
        } else {
            self.answer(&json!(9999), &json!({"stopReason": "end_turn"}));
        }
    }

    /// Waits for what comes in mid-turn.
    fn wait_in_turn(&mut self) -> Waited {
        while let Some(message) = self.line() {
            match message["method"].as_str().unwrap_or_default() {
                "turn/interrupt" => {
                    self.answer(&message["id"], &json!({}));
                    return Waited::Stopped;
                }
                "session/cancel" => return Waited::Stopped,
                "turn/steer" => {
                    let params = &message["params"];
                    assert_eq!(params["expectedTurnId"], self.turn_id());
                    self.answer(&message["id"], &json!({"turnId": self.turn_id()}));
                    self.user_item(params);
                    let more = texts(params);
                    note(&more);
                    return Waited::Steered(more);
                }
                _ => {}
            }
        }
        Waited::Closed
    }

    /// Asks what has to be answered, and what nobody can.
    fn ask(&mut self) {
        let (allowed, chosen) = if self.is_codex {
            self.request(
                "a1",
                "item/commandExecution/requestApproval",
                &json!({"itemId": "c"}),
            );
            (self.line().unwrap(), json!({"decision": "accept"}))
        } else {
            let options = json!([{"optionId": "no", "kind": "reject_once"},
                                 {"optionId": "yes", "kind": "allow_once"}]);
            self.request(
                "a1",
                "session/request_permission",
                &json!({"options": options}),
            );
            let outcome = json!({"outcome": {"outcome": "selected", "optionId": "yes"}});
            (self.line().unwrap(), outcome)
        };
        assert_eq!(
            (&allowed["id"], &allowed["result"]),
            (&json!("a1"), &chosen)
        );
        self.request("a2", "fs/read_text_file", &json!({"path": "/etc/passwd"}));
        assert_eq!(self.line().unwrap()["error"]["code"], -32601);
    }

    fn tool_and_answer(&self, texts: &[String]) {
        let answer = match self.scenario.as_str() {
            "flags" => self.flags.clone(),
            "environment" => {
                let vars: Vec<_> = std::env::vars().map(|(k, v)| format!("{k}={v}")).collect();
                vars.join("\n")
            }
            _ => format!("Reply to: {}", texts.join(" + ")),
        };
        if self.is_codex {
            let item = |kind: &str, item: &Value| self.say(kind, &json!({"item": item}));
            item(
                "item/completed",
                &json!({"type": "agentMessage", "id": "m1", "text": "on my way"}),
            );
            let command = json!({"type": "commandExecution", "id": "c1", "command": "ls"});
            item("item/started", &command);
            item("item/completed", &command);
            item(
                "item/completed",
                &json!({"type": "agentMessage", "id": "m2", "text": answer}),
            );
            let last = json!({"inputTokens": 11, "cachedInputTokens": 1, "outputTokens": 7,
                              "reasoningOutputTokens": 0, "totalTokens": 18});
            self.say(
                "thread/tokenUsage/updated",
                &json!({"tokenUsage": {"last": last, "total": last}}),
            );
        } else {
            self.chunk("on my way");
            self.update(
                &json!({"sessionUpdate": "tool_call", "toolCallId": "c1", "title": "bash"}),
            );
            self.update(&json!({"sessionUpdate": "tool_call_update", "toolCallId": "c1", "status": "completed"}));
            let half = answer.floor_char_boundary(answer.len() / 2);
            self.chunk(&answer[..half]);
            self.chunk(&answer[half..]);
        }
    }

    fn end(&self, id: &Value, status: &str, stop_reason: &str) {
        if self.is_codex {
            let turn = self.shape(&json!(status), &Value::Null);
            self.say(
                "turn/completed",
                &json!({"threadId": SESSION, "turn": turn}),
            );
        } else {
            let usage = json!({"inputTokens": 10, "cachedReadTokens": 1, "outputTokens": 7});
            self.answer(id, &json!({"stopReason": stop_reason, "usage": usage}));
        }
    }

    fn fail(&self, id: &Value) {
        let words = "unexpected status 401 Unauthorized: bad key";
        if self.is_codex {
            let info = json!({"responseTooManyFailedAttempts": {"httpStatusCode": 401}});
            let turn = self.shape(
                &json!("failed"),
                &json!({"message": words, "codexErrorInfo": info}),
            );
            self.say(
                "turn/completed",
                &json!({"threadId": SESSION, "turn": turn}),
            );
        } else {
            self.refuse(id, "Internal error", &json!({"details": words}));
        }
    }

    fn shape(&self, status: &Value, error: &Value) -> Value {
        json!({"id": self.turn_id(), "items": [], "status": status, "error": error})
    }

    fn turn_id(&self) -> String {
        format!("turn-{}", self.turns)
    }

    fn user_item(&self, params: &Value) {
        let item = json!({"type": "userMessage", "id": "u", "clientId": params["clientUserMessageId"],
                          "content": params["input"]});
        self.say("item/completed", &json!({"item": item}));
    }

    fn chunk(&self, text: &str) {
        let content = json!({"type": "text", "text": text});
        self.update(&json!({"sessionUpdate": "agent_message_chunk", "content": content}));
    }

    fn update(&self, update: &Value) {
        self.say(
            "session/update",
            &json!({"sessionId": SESSION, "update": update}),
        );
    }

    fn say(&self, method: &str, params: &Value) {
        self.write(json!({"method": method, "params": params}));
    }

    fn request(&self, id: &str, method: &str, params: &Value) {
        self.write(json!({"id": id, "method": method, "params": params}));
    }

    fn answer(&self, id: &Value, result: &Value) {
        self.write(json!({"id": id, "result": result}));
    }

    fn refuse(&self, id: &Value, message: &str, data: &Value) {
        self.write(json!({"id": id, "error": {"code": -32603, "message": message, "data": data}}));
    }

    fn write(&self, mut message: Value) {
        if !self.is_codex {
            message["jsonrpc"] = "2.0".into();
        }
        println!("{message}");
    }
}

/// What came in mid-turn.
enum Waited {
    Stopped,
    Steered(Vec<String>),
    Closed,
}

/// Notes what the fake was sent.
pub(crate) fn note(texts: &[String]) {
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open("received.log")
        .unwrap();
    for text in texts {
        log.write_all(format!("{}\n", json!(text)).as_bytes())
            .unwrap();
    }
}

fn texts(params: &Value) -> Vec<String> {
    let blocks = params["input"]
        .as_array()
        .or_else(|| params["prompt"].as_array());
    let texts = blocks
        .unwrap()
        .iter()
        .map(|block| block["text"].as_str().unwrap().to_owned());
    texts.collect()
}

/// Noise of every kind: no JSON, no UTF-8, no message, and a line of 20 MB.
#[expect(clippy::disallowed_methods, reason = "bytes that are no text")]
fn flood() {
    let mut out = std::io::stdout().lock();
    for _ in 0..2000 {
        out.write_all(b"\n{\n[1,2]\n\xff\xfe\x00\n{\"method\":\"unknown/thing\",\"params\":1}\n")
            .unwrap();
    }
    let long = vec![b'x'; 20 << 20];
    out.write_all(&long).unwrap();
    out.write_all(b"\n").unwrap();
}
