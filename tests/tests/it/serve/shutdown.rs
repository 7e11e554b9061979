//! `serve` is asked to end while it has work.

use std::fs;

use drawbridge_testkit::{Launcher, Serve};
use rustix::process::Signal;

use super::{SHELL, launcher};

const RUNS: usize = 10;

/// Starts as many agents as may run, each waiting for a file, and two more
/// submissions that have to wait.
fn busy<'a>(launcher: &'a Launcher, args: &[&str]) -> (Serve<'a>, Vec<i64>) {
    let args = [&SHELL[..], &["--max-runs", "10"], args].concat();
    let serve = launcher.serve(&args);
    let script = "until [ -e go ]; do sleep 0.05; done; echo went";
    let live: Vec<_> = (0..RUNS)
        .map(|n| serve.submit(&["--group", &format!("g{n}")], "x", script))
        .collect();
    for n in 0..2 {
        let _ = serve.submit(&["--group", &format!("waits{n}")], "x", "echo later");
    }
    for id in &live {
        let _ = serve.wait_for(*id, "start");
    }
    for n in 0..RUNS {
        let heartbeat = launcher.group(&format!("g{n}")).join("ipc/heartbeat.json");
        drawbridge_testkit::eventually("the agent", || heartbeat.exists().then_some(()));
    }
    (serve, live)
}

#[test]
fn sigterm_lets_live_runs_come_to_their_end_and_keeps_the_queue() {
    let (_model, launcher) = launcher();
    let (mut serve, live) = busy(&launcher, &["--drain", "60s"]);
    serve.program.signal(Signal::TERM);
    for n in 0..RUNS {
        fs::write(launcher.group(&format!("g{n}")).join("workspace/go"), "").unwrap();
    }
    let ended = serve.program.wait();
    assert_eq!(ended.code, 0, "{}", ended.err);
    launcher.assert_nothing_left();
    let serve = launcher.serve(&SHELL);
    serve.wait_for_ends(RUNS + 2);
    let stages = serve.stages();
    assert!(stages.values().all(|stage| stage == "done"), "{stages:?}");
    assert_eq!(stages.len(), live.len() + 2);
}

#[test]
fn what_does_not_end_in_time_is_stopped_and_kept() {
    let (_model, launcher) = launcher();
    let (serve, live) = busy(&launcher, &["--drain", "100ms"]);
    let ended = serve.end();
    assert_eq!(ended.code, 130, "{}", ended.err);
    assert!(ended.err.contains("dead-letter list"), "{}", ended.err);
    launcher.assert_nothing_left();
    let listed = launcher.run(&["dead-letter", "list", "--json"]).out;
    assert_eq!(listed.lines().count(), live.len());
    let serve = launcher.serve(&SHELL);
    for id in live {
        let retried = launcher.run(&["dead-letter", "retry", &id.to_string()]);
        assert_eq!(retried.code, 0, "{}", retried.err);
    }
    for n in 0..RUNS {
        fs::write(launcher.group(&format!("g{n}")).join("workspace/go"), "").unwrap();
    }
    serve.wait_for_ends(RUNS + RUNS + 2);
    assert!(serve.stages().values().all(|stage| stage == "done"));
}

#[test]
fn a_second_signal_ends_the_patience() {
    let (_model, launcher) = launcher();
    let (mut serve, _) = busy(&launcher, &["--drain", "1h"]);
    serve.program.signal(Signal::TERM);
    // It says so when the first one has arrived.
    serve
        .program
        .wait_for_err("its word", |err| err.contains("waiting for").then_some(()));
    serve.program.signal(Signal::TERM);
    assert_eq!(serve.program.wait().code, 130);
    launcher.assert_nothing_left();
}
