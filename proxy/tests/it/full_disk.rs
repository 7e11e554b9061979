//! An audit file that cannot be written for a while: nothing is served then, and
//! everything when it can be written again.

use std::path::Path;

use drawbridge_proxy::testing::verify;
use drawbridge_testkit::{ProxyProgram, eventually};
use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::program::{PROGRAM, command_of, config, start_by};
use crate::support::Upstream;

/// A proxy with an audit file. A write over its limit on the size of files
/// fails, after as many bytes as there is room for, as on a full disk.
fn start(upstream: &Upstream) -> ProxyProgram {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = command_of("sh", folder.path());
    shell.args(["-c", "trap '' XFSZ && exec \"$0\" \"$@\"", PROGRAM]);
    let audit = "[proxy]\naudit = { path = \"audit.jsonl\", fsync = \"always\" }\n";
    start_by(shell, folder, &(audit.to_owned() + &config(upstream)))
}

fn limit_files(running: &ProxyProgram, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(Some(running.program.pid()), Resource::Fsize, limit).unwrap();
}

/// The records of these kinds, once the last one is there.
fn wait_for_records(path: &Path, kind: &str, count: usize) -> String {
    eventually(&format!("{count} records of {kind}"), || {
        let text = std::fs::read_to_string(path).unwrap();
        let kind = format!("\"kind\":\"{kind}\"");
        (text.matches(&kind).count() == count).then_some(text)
    })
}

#[test]
fn after_a_full_disk_requests_are_served_and_recorded_again() {
    let upstream = Upstream::answering();
    let mut running = start(&upstream);
    let file = running.path("audit.jsonl");
    let session = running.issue(&[]);
    let token = session["token"].as_str().unwrap();
    assert_eq!(running.get("/v1/models", token), 200);
    upstream.next();
    let whole = wait_for_records(&file, "request", 1).len() as u64;

    // The first one is in flight when the disk is full: a part of its record
    // can still be written.
    limit_files(&running, Some(whole + 20));
    assert_eq!(running.get("/v1/models", token), 200);
    upstream.next();
    running.wait_for_log("no request is served until it can");
    for _ in 0..3 {
        assert_eq!(running.get("/v1/models", token), 503);
    }
    upstream.assert_unused();

    limit_files(&running, None);
    running.wait_for_log("requests are served");
    assert_eq!(running.get("/v1/models", token), 200);
    wait_for_records(&file, "request", 3);
    running.program.signal(Signal::TERM);
    assert_eq!(running.program.wait().code, 0);

    let anchor = std::fs::read_to_string(running.path("audit.jsonl.anchor"));
    let anchor = anchor.unwrap().parse().unwrap();
    let report = verify(std::slice::from_ref(&file), Some(anchor)).unwrap();
    let text = wait_for_records(&file, "interrupted", 1);
    // Opened, the session, three requests, the interruption, closed.
    assert_eq!((report.records, text.lines().count()), (7, 7), "{text}");
}

#[test]
fn a_proxy_can_end_while_its_disk_is_full() {
    let upstream = Upstream::answering();
    let mut running = start(&upstream);
    let session = running.issue(&[]);
    let token = session["token"].as_str().unwrap();
    limit_files(&running, Some(0));
    assert_eq!(running.get("/v1/models", token), 200);
    running.wait_for_log("no request is served until it can");
    running.program.signal(Signal::TERM);
    assert_eq!(running.program.wait().code, 0);
    let file = running.path("audit.jsonl");
    verify(&[file], None).unwrap();
}
