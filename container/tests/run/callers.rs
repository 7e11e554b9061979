//! Callers of `drawbridge serve` that go away.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::Bench;

/// The longest these tests wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn lines(source: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let mut read = BufReader::new(source).lines().map_while(Result::ok);
        read.try_for_each(|line| sender.send(line))
    });
    lines
}

#[test]
fn what_a_caller_that_has_gone_submitted_is_run() {
    let bench = Bench::new("answer");
    let mut serve = Killed(bench.command(&["serve"]).spawn().unwrap());
    let log = lines(serve.0.stderr.take().unwrap());
    while !log.recv_timeout(DEADLINE).unwrap().contains("serving on ") {}
    let token = bench.read("state/serve/token");
    let body = r#"{"submit":{"prompt":"hi"}}"#;
    for _ in 0..10 {
        let mut caller = UnixStream::connect(bench.path("state/serve/serve.sock")).unwrap();
        let length = body.len();
        write!(
            caller,
            "POST /v1/commands HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
    }
    let submit = bench.command(&["submit", "--prompt", "the last one"]);
    let last = bench.end({ submit }.spawn().unwrap());
    let last: i64 = last.out.trim().parse().unwrap();
    assert!(last > 1, "the others were not even written down");

    let mut reader = Killed(bench.command(&["events", "--follow"]).spawn().unwrap());
    let events = lines(reader.0.stdout.take().unwrap());
    let mut left: BTreeSet<i64> = (1..=last).collect();
    while !left.is_empty() {
        let line = events.recv_timeout(DEADLINE);
        let line = line.unwrap_or_else(|_| panic!("{left:?} are not run"));
        let entry: Value = serde_json::from_str(&line).unwrap();
        if entry["event"]["type"] == "done" {
            left.remove(&entry["submission"].as_i64().unwrap());
        }
    }
}
