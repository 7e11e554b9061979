//! An audit file that cannot be written for a while: nothing is served then, and
//! everything when it can be written again.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use drawbridge_proxy::testing::verify;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::program::{PROGRAM, Running, command_of, config, run, wait_for};
use crate::support::{DEADLINE, Upstream};

/// A proxy with an audit file. A write over its limit on the size of files
/// fails, after as many bytes as there is room for, as on a full disk.
fn start(upstream: &Upstream) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = command_of("sh", folder.path());
    shell.args(["-c", "trap '' XFSZ && exec \"$0\" \"$@\"", PROGRAM]);
    let audit = "[proxy]\naudit = { path = \"audit.jsonl\", fsync = \"always\" }\n";
    Running::start_by(shell, folder, &(audit.to_owned() + &config(upstream)))
}

fn limit_files(running: &Running, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    let pid = Pid::from_child(&running.child);
    prlimit(Some(pid), Resource::Fsize, limit).unwrap();
}

/// The records of these kinds, once the last one is there.
fn wait_for_records(path: &Path, kind: &str, count: usize) -> String {
    let end = Instant::now() + DEADLINE;
    loop {
        let text = std::fs::read_to_string(path).unwrap();
        if text.matches(&format!("\"kind\":\"{kind}\"")).count() == count {
            return text;
        }
        assert!(Instant::now() < end, "no {count} of {kind}: {text}");
        std::thread::yield_now();
    }
}

#[test]
fn after_a_full_disk_requests_are_served_and_recorded_again() {
    let upstream = Upstream::answering();
    let mut running = start(&upstream);
    let file = running.folder.path().join("audit.jsonl");
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
    wait_for(&mut running.log, "no request is served until it can");
    for _ in 0..3 {
        assert_eq!(running.get("/v1/models", token), 503);
    }
    upstream.assert_unused();

    limit_files(&running, None);
    wait_for(&mut running.log, "requests are served");
    assert_eq!(running.get("/v1/models", token), 200);
    wait_for_records(&file, "request", 3);
    let stopped = run(Command::new("kill").args(["-TERM", &running.child.id().to_string()]));
    assert!(stopped.0 && running.child.wait().unwrap().success());

    let anchor = std::fs::read_to_string(running.folder.path().join("audit.jsonl.anchor"));
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
    wait_for(&mut running.log, "no request is served until it can");
    let stopped = run(Command::new("kill").args(["-TERM", &running.child.id().to_string()]));
    assert!(stopped.0);
    assert!(running.child.wait().unwrap().success());
    let file = running.folder.path().join("audit.jsonl");
    verify(&[file], None).unwrap();
}
