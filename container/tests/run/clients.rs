//! Clients of `drawbridge serve` that go away.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;

use drawbridge_testkit::Dialogue;

use crate::TestMachine;
use crate::waiting::start_serve;

#[test]
fn submissions_of_a_disconnected_client_are_run() {
    let machine = TestMachine::new("answer");
    let _serve = start_serve(&machine, &[]);
    let token = machine.read("state/serve/token");
    let body = r#"{"submit":{"prompt":"hi"}}"#;
    for _ in 0..10 {
        let mut client = UnixStream::connect(machine.path("state/serve/serve.sock")).unwrap();
        let length = body.len();
        write!(
            client,
            "POST /v1/commands HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
    }
    let last = machine.call(&["submit", "--prompt", "the last one"]);
    let last: i64 = last.out.trim().parse().unwrap();
    assert!(last > 1, "the others were not even written down");

    let mut events = Dialogue::start(&mut machine.command(&["events", "--follow"]));
    let mut left: BTreeSet<i64> = (1..=last).collect();
    while !left.is_empty() {
        let done = events.find(|entry| entry["event"]["type"] == "done");
        left.remove(&done["submission"].as_i64().unwrap());
    }
}
