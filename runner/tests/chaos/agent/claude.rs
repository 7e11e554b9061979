//! The fake of Claude Code.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{Agent, Came, leave, say_line};

struct Message {
    uuid: Value,
    text: String,
}

pub(super) fn serve(agent: &mut Agent, flags: &[String]) {
    let resumes = flags.iter().any(|flag| flag.starts_with("--resume="));
    let mut queue = VecDeque::new();
    let mut has_forgotten = resumes && agent.chance(10);
    loop {
        if queue.is_empty() {
            match agent.line() {
                Some(line) => take(&line, &mut queue),
                None => return,
            };
            continue;
        }
        if std::mem::take(&mut has_forgotten) {
            let words = ["No conversation found with session ID: x"];
            say_line(
                &json!({"type": "result", "subtype": "error_during_execution",
                             "is_error": true, "errors": words}),
            );
            leave(1);
        }
        turn(agent, &mut queue);
        if queue.is_empty() {
            state("idle");
            if agent.chance(20) {
                begin();
                agent.quirk();
                answer(agent);
                state("idle");
            }
        }
        agent.quirk();
    }
}

/// Takes a line; true when it is an interrupt.
fn take(line: &Value, queue: &mut VecDeque<Message>) -> bool {
    if line["type"] == "control_request" {
        let response =
            json!({"subtype": "success", "request_id": line["request_id"], "response": {}});
        say_line(&json!({"type": "control_response", "response": response}));
        return line["request"]["subtype"] == "interrupt";
    }
    if line["type"] == "user" {
        let message = Message {
            uuid: line["uuid"].clone(),
            text: line["message"]["content"].as_str().unwrap().to_owned(),
        };
        lifecycle(&message, "queued");
        queue.push_back(message);
    }
    false
}

fn turn(agent: &mut Agent, queue: &mut VecDeque<Message>) {
    let mut messages: Vec<_> = queue.pop_front().into_iter().collect();
    while agent.chance(3) {
        messages.extend(queue.pop_front());
    }
    messages
        .iter()
        .for_each(|message| lifecycle(message, "started"));
    agent.quirk();
    begin();
    let mut folded = Vec::new();
    let mut interrupted = false;
    for _ in 0..agent.rng.u32(0..4) {
        match agent.meanwhile() {
            Came::Line(line) => interrupted |= take(&line, queue),
            Came::Nothing | Came::End => {}
        }
        if interrupted {
            break;
        }
        if agent.chance(2)
            && let Some(message) = queue.pop_front()
        {
            lifecycle(&message, "started");
            lifecycle(&message, "completed");
            folded.push(message);
        }
        agent.quirk();
    }
    for message in messages
        .iter()
        .chain(&folded)
        .filter(|message| !message.uuid.is_null())
    {
        agent.keep(&message.text);
    }
    agent.quirk();
    let last = if interrupted {
        say_line(
            &json!({"type": "result", "subtype": "error_during_execution", "is_error": true,
                         "terminal_reason": "aborted_streaming", "errors": []}),
        );
        "cancelled"
    } else if agent.chance(12) {
        say_line(
            &json!({"type": "result", "subtype": "success", "is_error": true,
                         "api_error_status": 529, "result": "API Error: 529"}),
        );
        "cancelled"
    } else {
        answer(agent);
        "completed"
    };
    agent.quirk();
    messages.iter().for_each(|message| lifecycle(message, last));
}

fn begin() {
    state("running");
    let session = "5e551017-0000-4000-8000-000000000001";
    say_line(&json!({"type": "system", "subtype": "init", "session_id": session}));
}

fn answer(agent: &mut Agent) {
    let text = agent.answer();
    say_line(&json!({"type": "result", "subtype": "success", "is_error": false, "result": text}));
    agent.answered(&text);
}

fn state(state: &str) {
    say_line(&json!({"type": "system", "subtype": "session_state_changed", "state": state}));
}

fn lifecycle(message: &Message, state: &str) {
    if !message.uuid.is_null() {
        let id = &message.uuid;
        say_line(&json!({"type": "command_lifecycle", "command_uuid": id, "state": state}));
    }
}
