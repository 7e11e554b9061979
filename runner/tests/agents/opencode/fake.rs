//! A fake of opencode and its server.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::fake_rpc_agent::{SESSION, note};
use crate::harness::eventually;
use crate::noise::leave;

pub(crate) fn fake_agent(scenario: &str, args: &[String]) -> ExitCode {
    let mut agent = FakeOpencode {
        scenario,
        lines: std::io::stdin().lines(),
        server: (scenario != "no-server").then(|| listen(args)),
        events: None,
        messages: 0,
    };
    while let Some(message) = agent.line() {
        let id = &message["id"];
        match message["method"].as_str().unwrap_or_default() {
            "initialize" => {
                let abilities = json!({"sessionCapabilities": {"resume": {}}});
                let hello = json!({"protocolVersion": 1, "agentCapabilities": abilities});
                say(&json!({"id": id, "result": hello}));
            }
            "session/new" | "session/resume" => {
                say(&json!({"id": id, "result": {"sessionId": SESSION}}));
                agent.events = agent.server.as_ref().map(accept);
            }
            "session/prompt" => {
                let text = &message["params"]["prompt"][0]["text"];
                note(&[text.as_str().unwrap().to_owned()]);
                agent.turn(id, text.as_str().unwrap());
            }
            _ => {}
        }
    }
    ExitCode::SUCCESS
}

struct FakeOpencode<'a> {
    scenario: &'a str,
    lines: std::io::Lines<std::io::StdinLock<'static>>,
    server: Option<TcpListener>,
    events: Option<TcpStream>,
    messages: u64,
}

impl FakeOpencode<'_> {
    fn line(&mut self) -> Option<Value> {
        let line = self.lines.next()?.unwrap();
        Some(serde_json::from_str(&line).unwrap())
    }

    fn turn(&mut self, id: &Value, text: &str) {
        let scenario = if text == "one" {
            self.scenario
        } else {
            "polite"
        };
        match scenario {
            "refused" => self.refuse(id),
            "deaf" => {
                self.break_off(30);
                while self.line().is_some() {}
            }
            "dies" => {
                self.break_off(30);
                self.wait_for_cancel();
                leave();
            }
            "breaks-off"
            | "breaks-off-in-tools"
            | "counts-nothing"
            | "overflows"
            | "two-tries"
            | "long-pause" => {
                self.get_nowhere(scenario);
                self.wait_for_cancel();
                self.end(id, "cancelled");
            }
            _ => self.reply(id, scenario, text),
        }
    }

    /// In this order: what is known of a failure may come late.
    fn refuse(&mut self, id: &Value) {
        let error = json!({"code": -32603, "message": "Internal error: invalid x-api-key",
            "data": {"service": "session", "errorName": "APIError"}});
        say(&json!({"id": id, "error": error}));
        let data = json!({"message": "invalid x-api-key", "statusCode": 401});
        self.error(&json!({"name": "APIError", "data": data}));
        self.status(&json!({"type": "idle"}));
    }

    /// Calls the model again and again.
    fn get_nowhere(&mut self, scenario: &str) {
        match scenario {
            "breaks-off-in-tools" => {
                for _ in 0..30 {
                    self.tool("pending");
                    self.break_off(1);
                }
            }
            "counts-nothing" => {
                for _ in 0..30 {
                    self.tool("running");
                    self.break_off(1);
                }
                self.retry(1, "Overloaded", 2);
            }
            "overflows" => {
                for _ in 0..3 {
                    let data = json!({"message": "prompt is too long"});
                    self.error(&json!({"name": "ContextOverflowError", "data": data}));
                    self.status(&json!({"type": "busy"}));
                }
            }
            "two-tries" => {
                self.retry(1, "Overloaded", 2);
                self.retry(2, "Overloaded", 4);
            }
            "long-pause" => self.retry(1, "Too Many Requests", 3600),
            _ => self.break_off(30),
        }
    }

    /// Replies, after something that is no part of the reply.
    fn reply(&mut self, id: &Value, scenario: &str, text: &str) {
        match scenario {
            "recovers" => self.break_off(3),
            "tries-again" => self.try_again(),
            "sums-up" => {
                self.chunk("the real answer");
                self.chunk("a summary");
                self.message(json!({"summary": true, "finish": "stop", "tokens": {"output": 5}}));
            }
            _ => {}
        }
        self.chunk(&format!("Reply to: {text}"));
        if scenario == "cut" {
            self.message(json!({"finish": "length", "tokens": {"output": 5}}));
        }
        self.status(&json!({"type": "idle"}));
        let usage = json!({"inputTokens": 10, "outputTokens": 7});
        say(&json!({"id": id, "result": {"stopReason": "end_turn", "usage": usage}}));
    }

    fn wait_for_cancel(&mut self) {
        while self.line().unwrap()["method"] != "session/cancel" {}
    }

    /// Begins an answer that breaks off, again and again; each is told twice.
    fn break_off(&mut self, times: u64) {
        for _ in 0..times {
            self.chunk("half");
            for _ in 0..2 {
                self.message(json!({"finish": "unknown", "tokens": {"output": 0}}));
            }
        }
    }

    /// Begins an answer that fails in its middle, and the next try of it.
    fn try_again(&mut self) {
        self.messages += 1;
        self.message(json!({"finish": null}));
        self.messages -= 1;
        self.retry(1, "Overloaded", 2);
        self.chunk("half of it");
        // The answer shows that what was said has been heard.
        let question = json!({"id": "a1", "method": "session/request_permission",
            "params": {"options": []}});
        say(&question);
        assert_eq!(self.line().unwrap()["id"], "a1");
        self.status(&json!({"type": "busy"}));
        let status = json!({"type": "retry", "message": "of a subagent", "next": 0});
        self.event(
            "session.status",
            &json!({"sessionID": "ses_2", "status": status}),
        );
        eventually("the test's word", || Path::new("go").exists());
        self.messages -= 1;
    }

    /// Tells something of the last message.
    fn message(&mut self, mut info: Value) {
        info["id"] = format!("msg_{}", self.messages).into();
        info["role"] = "assistant".into();
        self.event(
            "message.updated",
            &json!({"sessionID": SESSION, "info": info}),
        );
    }

    fn error(&mut self, error: &Value) {
        self.event(
            "session.error",
            &json!({"sessionID": SESSION, "error": error}),
        );
    }

    fn status(&mut self, status: &Value) {
        self.event(
            "session.status",
            &json!({"sessionID": SESSION, "status": status}),
        );
    }

    fn tool(&mut self, status: &str) {
        let update = json!({"sessionUpdate": "tool_call", "toolCallId": "tu1", "title": "bash"});
        update_session(&update);
        let part = json!({"type": "tool", "tool": "bash", "state": {"status": status}});
        self.event(
            "message.part.updated",
            &json!({"sessionID": SESSION, "part": part}),
        );
    }

    fn retry(&mut self, attempt: u64, words: &str, seconds: u64) {
        let next = SystemTime::now() + Duration::from_secs(seconds);
        let next = next.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let status = json!({"type": "retry", "attempt": attempt, "message": words,
            "next": u64::try_from(next.as_millis()).unwrap()});
        self.status(&status);
    }

    fn end(&mut self, id: &Value, stop_reason: &str) {
        self.status(&json!({"type": "idle"}));
        let usage = json!({"inputTokens": 0, "outputTokens": 0});
        say(&json!({"id": id, "result": {"stopReason": stop_reason, "usage": usage}}));
    }

    /// One message of the agent, whole.
    fn chunk(&mut self, text: &str) {
        self.messages += 1;
        let update = json!({"sessionUpdate": "agent_message_chunk",
            "messageId": format!("msg_{}", self.messages), "content": {"type": "text", "text": text}});
        update_session(&update);
    }

    fn event(&mut self, kind: &str, properties: &Value) {
        let event = json!({"directory": "/w", "payload": {"type": kind, "properties": properties}});
        let Some(events) = &mut self.events else {
            return;
        };
        // The other end may be gone when this agent is being ended.
        let _ = write!(events, "data: {event}\n\n");
    }
}

fn listen(args: &[String]) -> TcpListener {
    let after = |name: &str| &args[args.iter().position(|arg| arg == name).unwrap() + 1];
    TcpListener::bind(format!("{}:{}", after("--hostname"), after("--port"))).unwrap()
}

/// Takes the one request for events, from whoever knows the password.
fn accept(server: &TcpListener) -> TcpStream {
    let (mut stream, _) = server.accept().unwrap();
    let head = BufReader::new(stream.try_clone().unwrap()).lines();
    let head: Vec<_> = head
        .map(Result::unwrap)
        .take_while(|line| !line.is_empty())
        .collect();
    assert_eq!(head[0], "GET /global/event HTTP/1.1");
    let password = std::env::var("OPENCODE_SERVER_PASSWORD").unwrap();
    let login = BASE64.encode(format!("opencode:{password}"));
    assert!(
        head.contains(&format!("authorization: Basic {login}")),
        "{head:?}"
    );
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    )
    .unwrap();
    stream
}

fn update_session(update: &Value) {
    let params = json!({"sessionId": SESSION, "update": update});
    say(&json!({"method": "session/update", "params": params}));
}

fn say(message: &Value) {
    let mut message = message.clone();
    message["jsonrpc"] = "2.0".into();
    println!("{message}");
}
