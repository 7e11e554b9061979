//! What opencode tells on its own server, beside its protocol, with a stand-in
//! that says it in the form recorded from opencode 1.18.33.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use drawbridge_shared::protocol::{ErrorKind, Progress, RecordKind};
use serde_json::{Value, json};

use crate::harness::Group;
use crate::rpc_stand_in::{SESSION, note};

crate::tests![
    a_refused_key_is_told_by_its_server,
    a_model_that_always_breaks_off_fails_the_turn,
    one_that_does_not_stop_trying_is_ended,
    a_model_that_breaks_off_in_its_tool_calls_fails_the_turn,
    a_provider_that_counts_nothing_is_not_given_up,
    an_answer_that_broke_off_is_no_part_of_the_next_one,
    a_call_that_is_tried_again_is_told_and_can_be_interrupted,
    a_provider_that_wants_a_long_pause_is_reported,
    too_many_tries_of_a_call_fail_the_turn,
    it_works_without_its_server,
];

fn document(group: &Group, scenario: &str) -> Value {
    let this = std::env::current_exe().unwrap();
    let scenario = format!("opencode-{scenario}");
    group.document(
        "one",
        "opencode",
        &[this.to_str().unwrap(), "stand-in", &scenario],
    )
}

/// The turn fails, and the conversation goes on.
fn fails(scenario: &str, kind: ErrorKind, words: &str) -> Option<u64> {
    let group = Group::new();
    let run = group.run(&document(&group, scenario));
    let record = run.record();
    assert_eq!(record.details.error_kind, Some(kind), "{record:?}");
    let error = record.error.unwrap();
    assert!(error.contains(words), "{error}");
    group.message("two");
    let mut next = run.record();
    if next.details.kind == Some(RecordKind::SessionUpdate) {
        next = run.record();
    }
    assert_eq!(next.result.as_deref(), Some("Reply to: two"), "{next:?}");
    assert_eq!(next.new_session_id.as_deref(), Some(SESSION));
    group.close();
    run.exit();
    assert_eq!(group.received(), ["one", "two"]);
    record.details.retry_after_ms
}

fn a_refused_key_is_told_by_its_server() {
    fails("refused", ErrorKind::Auth, "invalid x-api-key");
}

fn a_model_that_always_breaks_off_fails_the_turn() {
    fails("breaks-off", ErrorKind::Overload, "broke off 10 times");
}

fn a_model_that_breaks_off_in_its_tool_calls_fails_the_turn() {
    fails(
        "breaks-off-in-tools",
        ErrorKind::Overload,
        "broke off 10 times",
    );
}

/// Its calls look broken, but tools run between them.
fn a_provider_that_counts_nothing_is_not_given_up() {
    interrupted_after_retries("counts-nothing", 1);
}

fn one_that_does_not_stop_trying_is_ended() {
    fails("deaf", ErrorKind::Overload, "broke off 10 times");
}

fn a_provider_that_wants_a_long_pause_is_reported() {
    let pause = fails("long-pause", ErrorKind::RateLimit, "Too Many Requests").unwrap();
    assert!((3_500_000..=3_600_000).contains(&pause), "{pause}");
}

fn too_many_tries_of_a_call_fail_the_turn() {
    fails(
        "six-tries",
        ErrorKind::Overload,
        "Overloaded (after 6 tries",
    );
}

fn an_answer_that_broke_off_is_no_part_of_the_next_one() {
    let group = Group::new();
    let (record, exit) = group.run_once(&document(&group, "recovers"));
    assert_eq!(record.result.as_deref(), Some("Reply to: one"));
    assert_eq!(exit, 0);
}

fn a_call_that_is_tried_again_is_told_and_can_be_interrupted() {
    interrupted_after_retries("two-tries", 2);
}

/// The tries are told, and whoever is interrupted meanwhile has not failed.
fn interrupted_after_retries(scenario: &str, tries: usize) {
    let group = Group::new();
    let mut document = document(&group, scenario);
    document["drawbridge"]["progress"] = true.into();
    let run = group.run(&document);
    let mut seen = 0;
    while seen < tries {
        match run.record().details.progress {
            Some(Progress::Retry { error }) if error == "Overloaded" => seen += 1,
            Some(_) => {}
            None => panic!("the turn has ended after {seen} tries"),
        }
    }
    group.input_file("1-interrupt.json", &json!({"type": "interrupt"}));
    assert_eq!(run.record().details.kind, Some(RecordKind::Interrupted));
    group.close();
    assert_eq!(run.exit().0, 0);
}

fn it_works_without_its_server() {
    let group = Group::new();
    let run = group.run(&document(&group, "no-server"));
    assert_eq!(run.answer(), "Reply to: one");
    group.close();
    let (exit, log) = run.exit();
    assert_eq!(exit, 0);
    assert!(log.contains("does not tell why calls fail"), "{log}");
}

pub(crate) fn stand_in(scenario: &str, args: &[String]) -> ExitCode {
    let mut agent = StandIn {
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

struct StandIn<'a> {
    scenario: &'a str,
    lines: std::io::Lines<std::io::StdinLock<'static>>,
    server: Option<TcpListener>,
    events: Option<TcpStream>,
    messages: u64,
}

impl StandIn<'_> {
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
            // In this order: what is known of a failure may come late.
            "refused" => {
                let error = json!({"code": -32603, "message": "Internal error: invalid x-api-key",
                    "data": {"service": "session", "errorName": "APIError"}});
                say(&json!({"id": id, "error": error}));
                let data = json!({"message": "invalid x-api-key", "statusCode": 401});
                let error = json!({"name": "APIError", "data": data});
                self.event(
                    "session.error",
                    &json!({"sessionID": SESSION, "error": error}),
                );
                return;
            }
            "breaks-off" | "breaks-off-in-tools" => {
                for _ in 0..30 {
                    if scenario == "breaks-off-in-tools" {
                        self.tool("pending");
                    }
                    self.break_off(1);
                }
                self.wait_for_cancel();
                self.end(id, "cancelled");
                return;
            }
            "deaf" => {
                self.break_off(30);
                while self.line().is_some() {}
                return;
            }
            "recovers" => self.break_off(3),
            "two-tries" | "six-tries" | "long-pause" | "counts-nothing" => {
                match scenario {
                    "counts-nothing" => {
                        for _ in 0..30 {
                            self.tool("running");
                            self.break_off(1);
                        }
                        self.retry(1, "Overloaded", 2);
                    }
                    "six-tries" => self.retry(6, "Overloaded", 30),
                    "long-pause" => self.retry(1, "Too Many Requests", 3600),
                    _ => {
                        self.retry(1, "Overloaded", 2);
                        self.retry(2, "Overloaded", 4);
                    }
                }
                self.wait_for_cancel();
                // So it ends a turn whose call it was to try again.
                self.end(id, "end_turn");
                return;
            }
            _ => {}
        }
        self.chunk(&format!("Reply to: {text}"));
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
            let info = json!({"id": format!("msg_{}", self.messages), "role": "assistant",
                "finish": "unknown", "tokens": {"input": 0, "output": 0}});
            for _ in 0..2 {
                self.event(
                    "message.updated",
                    &json!({"sessionID": SESSION, "info": info}),
                );
            }
        }
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
        self.event(
            "session.status",
            &json!({"sessionID": SESSION, "status": status}),
        );
    }

    fn end(&self, id: &Value, stop_reason: &str) {
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
        let events = self.events.as_mut().unwrap();
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
