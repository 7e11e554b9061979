//! A scripted Messages API on loopback, and waits with a deadline.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::DEADLINE;

/// The answer to one request.
pub(in crate::agent::builtin) struct Answer {
    bytes: Vec<u8>,
    /// Keep the connection open afterwards.
    hang: bool,
}

impl Answer {
    pub(in crate::agent::builtin) fn text(text: &str) -> Self {
        Self::stream(&[
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}),
        ])
    }

    pub(in crate::agent::builtin) fn tool(command: &str) -> Self {
        let input = json!({"command": command}).to_string();
        let (one, two) = input.split_at(5);
        let piece = |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": text}});
        Self::stream(&[
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "tool-1", "name": "bash", "input": {}}}),
            piece(one),
            piece(two),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}}),
        ])
    }

    /// Takes the request and never answers.
    pub(in crate::agent::builtin) fn silence() -> Self {
        Self {
            bytes: Vec::new(),
            hang: true,
        }
    }

    pub(in crate::agent::builtin) fn status(code: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {code} X\r\ncontent-length: {length}\r\n{headers}\r\n");
        Self {
            bytes: (head + body).into_bytes(),
            hang: false,
        }
    }

    fn stream(events: &[Value]) -> Self {
        let start = json!({"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}});
        let stop = json!({"type": "message_stop"});
        let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for event in std::iter::once(&start).chain(events).chain([&stop]) {
            let kind = event["type"].as_str().unwrap();
            let frame = format!("event: {kind}\ndata: {event}\n\n");
            bytes.extend(format!("{:x}\r\n{frame}\r\n", frame.len()).bytes());
        }
        bytes.extend(b"0\r\n\r\n");
        Self { bytes, hang: false }
    }

    /// The first part of the answer only; then the connection hangs or ends.
    pub(in crate::agent::builtin) fn cut(mut self, hang: bool) -> Self {
        self.bytes.truncate(self.bytes.len() / 2);
        self.hang = hang;
        self
    }
}

/// A request of the agent.
#[derive(Clone, Debug)]
pub(in crate::agent::builtin) struct Request {
    pub(in crate::agent::builtin) head: String,
    pub(in crate::agent::builtin) body: Value,
}

/// A running stand-in; it ends when dropped.
pub(in crate::agent::builtin) struct StandIn {
    base_url: String,
    requests: watch::Receiver<Vec<Request>>,
    _serving: AbortOnDropHandle<()>,
}

impl StandIn {
    pub(in crate::agent::builtin) async fn start(
        answers: impl IntoIterator<Item = Answer>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let answers: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new(answers.into_iter().collect()));
        let (seen, requests) = watch::channel(Vec::new());
        let serving = tokio::spawn(async move {
            let mut kept = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                seen.send_modify(|all: &mut Vec<_>| all.push(request));
                let answer = answers.lock().unwrap().pop_front();
                let Some(answer) = answer else { continue };
                stream.write_all(&answer.bytes).await.unwrap();
                if answer.hang {
                    kept.push(stream);
                }
            }
        });
        Self {
            base_url,
            requests,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    pub(in crate::agent::builtin) fn base_url(&self) -> &str {
        &self.base_url
    }

    pub(in crate::agent::builtin) fn requests(&self) -> Vec<Request> {
        self.requests.borrow().clone()
    }

    pub(in crate::agent::builtin) async fn wait_for_requests(&self, count: usize) {
        let mut requests = self.requests.clone();
        let seen = requests.wait_for(|all| all.len() >= count);
        timeout(DEADLINE, seen).await.unwrap().unwrap();
    }
}

async fn read_request(stream: &mut TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).await.unwrap();
    }
    let length = head.split("content-length: ").nth(1).unwrap();
    let length = length.lines().next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.unwrap();
    Request {
        head,
        body: serde_json::from_slice(&body).unwrap(),
    }
}

/// The content of a file, once it exists.
pub(in crate::agent::builtin) async fn wait_for_file(path: &Path) -> String {
    let read = async {
        loop {
            if let Ok(text) = std::fs::read_to_string(path) {
                return text;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, read).await.unwrap()
}

/// Waits until a process has ended; its zombie does not count.
pub(in crate::agent::builtin) async fn wait_for_end(pid: &str) {
    let stat = format!("/proc/{pid}/stat");
    let gone = async {
        while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, gone).await.unwrap();
}
