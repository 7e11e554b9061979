//! The costs of the launcher in addition to the bare engine.
//!
//! ```sh
//! cargo bench -p drawbridge-tests --bench launcher
//! ```
//!
//! Needs Docker and the image of the builtin agent. The bare engine and the
//! launcher run the same image, agent program and turn, one after the other, so
//! that both meet the same machine. Times are medians; nothing here passes or
//! fails by the clock.
#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use drawbridge_testkit::launcher::events;
use drawbridge_testkit::serve::ends;
use drawbridge_testkit::{Answer, Credential, Launcher, Model, engine};
use rustix::process::Signal;
use serde_json::json;

const IMAGE: &str = concat!("drawbridge/builtin:", env!("CARGO_PKG_VERSION"));
const PAIRS: usize = 15;
const FLAGS: [&str; 6] = [
    "--runtime",
    "docker",
    "--agent",
    "command",
    "--image",
    IMAGE,
];
const PROGRAM: [&str; 3] = ["/bin/sh", "-c", "echo hi"];

fn main() {
    if let Err(reason) = engine::availability() {
        print(&format!("left out: {reason}"));
        return;
    }
    assert!(
        engine::has_image(IMAGE),
        "build it: drawbridge build-image builtin"
    );
    let model = Model::start(|_| Answer::Text("never asked".into()));
    let launcher = Launcher::new(Credential::ApiKey, &model);
    print("| What | Value |\n|---|---|");
    one_run(&launcher);
    for runs in [1, 10, 50] {
        many_runs(&launcher, runs);
    }
    one_stop(&launcher);
}

fn one_run(launcher: &Launcher) {
    let (mut bare, mut ours, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..=PAIRS {
        let without = bare_run(&launcher.working_directory().join(format!("bare{pair}")));
        let args = [&["run"], &FLAGS[..], &["--prompt", "hi", "--"], &PROGRAM].concat();
        let started = Instant::now();
        let ended = launcher.run(&args);
        let with = started.elapsed();
        assert_eq!(ended.out, "hi\n", "{}", ended.err);
        // The first pair warms the caches.
        if pair > 0 {
            bare.push(without);
            ours.push(with);
            added.push(with.saturating_sub(without));
        }
    }
    row("bare engine, one run", median(&mut bare));
    row("`drawbridge run`, one run", median(&mut ours));
    row("added by the launcher", median(&mut added));
}

/// The same turn without the launcher: the run document on standard input, and
/// `_close` when the answer is there.
fn bare_run(folder: &Path) -> Duration {
    for name in ["group", "ipc/input", "home"] {
        fs::create_dir_all(folder.join(name)).unwrap();
        chown(folder.join(name), Some(1000), Some(1000)).unwrap();
    }
    chown(folder.join("ipc"), Some(1000), Some(1000)).unwrap();
    let mount = |name: &str, target: &str| format!("{}:{target}", folder.join(name).display());
    let started = Instant::now();
    let mut child = Command::new("docker")
        .args([
            "run",
            "--interactive",
            "--rm",
            "--network",
            "none",
            "--read-only",
        ])
        .args(["--cap-drop", "ALL", "--security-opt", "no-new-privileges"])
        .args(["--user", "1000:1000", "--tmpfs", "/tmp"])
        .args(["--volume", &mount("group", "/workspace/group")])
        .args(["--volume", &mount("ipc", "/workspace/ipc")])
        .args([
            "--volume",
            &mount("home", "/home/agent"),
            "--env",
            "HOME=/home/agent",
        ])
        .arg(IMAGE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let input = json!({
        "prompt": "hi", "groupFolder": "g", "chatJid": "g@bench", "isMain": false,
        "drawbridge": { "agent": { "kind": "command", "command": PROGRAM } },
    });
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("_END---") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "no answer");
    }
    fs::write(folder.join("ipc/input/_close"), "").unwrap();
    lines.read_to_end(&mut Vec::new()).unwrap();
    assert!(child.wait().unwrap().success());
    started.elapsed()
}

/// So many runs at one time through `serve`.
fn many_runs(launcher: &Launcher, runs: usize) {
    let limit = runs.to_string();
    let args = [&FLAGS[..], &["--stdio", "--max-runs", &limit]].concat();
    let mut serve = launcher.serve(&args);
    let idle = memory(serve.program.id(), "VmRSS");
    let started = Instant::now();
    for _ in 0..runs {
        let submit = json!({ "submit": { "prompt": "hi", "program": PROGRAM } });
        serve.program.write(&format!("{submit}\n"));
    }
    for so_far in 1..=runs {
        serve.program.wait_for_out("the ends", |out| {
            (ends(&events(out)).len() >= so_far).then_some(())
        });
    }
    let took = started.elapsed();
    let done = ends(&events(&serve.program.out()));
    assert!(done.iter().all(|(_, kind)| kind == "done"), "{done:?}");
    let most = memory(serve.program.id(), "VmHWM");
    let each = took / u32::try_from(runs).unwrap();
    row(&format!("`serve`, {runs} at once: all done"), took);
    row(&format!("`serve`, {runs} at once: per run"), each);
    print(&format!(
        "| `serve`, {runs} at once: memory idle, most | {idle}, {most} |"
    ));
    serve.program.close_stdin();
    assert_eq!(serve.program.wait().code, 0);
}

/// From the request to stop until the container is confirmed removed.
fn one_stop(launcher: &Launcher) {
    let serve = launcher.serve(&FLAGS);
    let mut times = Vec::new();
    for _ in 0..5 {
        let id = serve.submit(&[], "x", "sleep 1000 & wait");
        let _ = serve.wait_for(id, "start");
        let _ = launcher.container();
        let started = Instant::now();
        let ended = launcher.run(&["close", "--now", &id.to_string()]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        let _ = serve.wait_for(id, "done");
        times.push(started.elapsed());
    }
    row("stop of one run, confirmed removed", median(&mut times));
    serve.program.signal(Signal::TERM);
}

/// A line of `/proc/PID/status`.
fn memory(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes: u64 = line
        .unwrap()
        .trim_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap();
    format!("{:.1} MB", kilobytes as f64 / 1024.0)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn row(what: &str, time: Duration) {
    print(&format!("| {what} | {} ms |", time.as_millis()));
}

fn print(line: &str) {
    writeln!(std::io::stderr().lock(), "{line}").unwrap();
}
