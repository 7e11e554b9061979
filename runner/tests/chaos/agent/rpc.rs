//! The fakes of Codex and of an ACP agent.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{Agent, Came, say_line};

const SESSION: &str = "01a1fbbd-d35a-7232-ba32-000000000001";

pub(super) fn serve(agent: &mut Agent, is_codex: bool) {
    let mut backlog = VecDeque::new();
    let mut turns = 0;
    while let Some(line) = backlog.pop_front().or_else(|| agent.line()) {
        let id = &line["id"];
        agent.quirk();
        match line["method"].as_str().unwrap_or_default() {
            "initialize" if is_codex => reply(id, json!({"userAgent": "x/0.169.0 (y)"})),
            "initialize" => reply(
                id,
                json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}),
            ),
            "thread/resume" | "session/load" if agent.chance(10) => {
                refuse(id, "no rollout found for thread id");
            }
            "thread/start" | "thread/resume" => reply(id, json!({"thread": {"id": SESSION}})),
            "session/new" | "session/load" => reply(id, json!({"sessionId": SESSION})),
            "thread/compact/start" => {
                reply(id, json!({}));
                agent.quirk();
                notify(
                    "turn/completed",
                    json!({"turn": {"id": "c", "status": "completed"}}),
                );
            }
            "turn/start" => {
                turns += 1;
                codex_turn(agent, &line, &format!("turn-{turns}"), &mut backlog);
            }
            "session/prompt" => acp_turn(agent, &line, &mut backlog),
            "turn/steer" | "turn/interrupt" => refuse(id, "no active turn"),
            _ => {}
        }
    }
}

fn codex_turn(agent: &mut Agent, start: &Value, turn: &str, backlog: &mut VecDeque<Value>) {
    let shape = |status: &str| json!({"turn": {"id": turn, "status": status}});
    reply(&start["id"], shape("inProgress"));
    agent.quirk();
    notify("turn/started", shape("inProgress"));
    receive(agent, start);
    let mut status = "completed";
    for _ in 0..agent.rng.u32(0..4) {
        agent.quirk();
        match agent.meanwhile() {
            Came::Line(line) if line["method"] == "turn/interrupt" => {
                reply(&line["id"], json!({}));
                status = "interrupted";
                break;
            }
            Came::Line(line) if line["method"] == "turn/steer" => {
                if agent.chance(3) {
                    refuse(&line["id"], "no active turn");
                    continue;
                }
                reply(&line["id"], json!({"turnId": turn}));
                // One that comes too late for the turn is accepted and dropped.
                if !agent.chance(4) {
                    receive(agent, &line);
                }
            }
            Came::Line(line) => backlog.push_back(line),
            Came::Nothing | Came::End => {}
        }
    }
    if status == "completed" && agent.chance(12) {
        status = "failed";
    }
    if status == "completed" {
        let text = agent.answer();
        let item = json!({"type": "agentMessage", "id": "m", "text": text});
        notify("item/completed", json!({"item": item}));
        agent.quirk();
        notify("turn/completed", shape(status));
        agent.answered(&text);
    } else {
        notify("turn/completed", shape(status));
    }
}

/// Codex has a message for good when it reports it as an item.
fn receive(agent: &mut Agent, request: &Value) {
    let params = &request["params"];
    agent.keep(params["input"][0]["text"].as_str().unwrap());
    agent.quirk();
    let item = json!({"type": "userMessage", "id": "u", "clientId": params["clientUserMessageId"]});
    notify("item/completed", json!({"item": item}));
}

fn acp_turn(agent: &mut Agent, prompt: &Value, backlog: &mut VecDeque<Value>) {
    let mut reason = "end_turn";
    for _ in 0..agent.rng.u32(0..4) {
        agent.quirk();
        match agent.meanwhile() {
            Came::Line(line) if line["method"] == "session/cancel" => {
                reason = "cancelled";
                break;
            }
            Came::Line(line) => backlog.push_back(line),
            Came::Nothing | Came::End => {}
        }
    }
    for block in prompt["params"]["prompt"].as_array().unwrap() {
        agent.keep(block["text"].as_str().unwrap());
    }
    agent.quirk();
    if reason == "end_turn" && agent.chance(12) {
        refuse(&prompt["id"], "unexpected status 529");
        return;
    }
    let text = agent.answer();
    if reason == "end_turn" {
        let content = json!({"type": "text", "text": text});
        let update = json!({"sessionUpdate": "agent_message_chunk", "content": content});
        notify("session/update", json!({"update": update}));
    }
    reply(&prompt["id"], json!({"stopReason": reason}));
    if reason == "end_turn" {
        agent.answered(&text);
    }
}

fn reply(id: &Value, result: Value) {
    say_line(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
}

fn refuse(id: &Value, message: &str) {
    let error = json!({"code": -32603, "message": message});
    say_line(&json!({"jsonrpc": "2.0", "id": id, "error": error}));
}

fn notify(method: &str, params: Value) {
    say_line(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
}
