//! Speaks the part of `docker`'s and of Apple's `container`'s command line that
//! the launcher uses, so that tests need no engine. It is found in the first
//! folder of `PATH`; `script` there says how it behaves, and `calls` records
//! each argument list.

#![expect(clippy::unwrap_used, reason = "a test helper fails the test")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use drawbridge_shared::ipc::{HostMessage, InputFolder};
use drawbridge_shared::marker::Markers;
use drawbridge_shared::protocol::{ErrorKind, Progress, RecordKind, RunInput, RunRecord};

fn here() -> PathBuf {
    let path = std::env::var("PATH").unwrap();
    std::env::split_paths(&path).next().unwrap()
}

fn main() -> ExitCode {
    let here = here();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut calls = OpenOptions::new()
        .append(true)
        .create(true)
        .open(here.join("calls"))
        .unwrap();
    writeln!(calls, "{}", args.join(" ")).unwrap();
    let script = fs::read_to_string(here.join("script")).unwrap();
    hold(&here, &args[0]);
    if here.join("down").exists() {
        return ExitCode::from(fail("cannot connect to the daemon", 1));
    }
    let code = match args[0].as_str() {
        "info" if script == "stopped" => fail("cannot connect to the daemon", 1),
        "info" => {
            print(
                r#"{"MemoryLimit":true,"PidsLimit":true,"CpuCfsQuota":true,
                    "SecurityOptions":["name=seccomp"]}"#,
            );
            0
        }
        "system" if script == "stopped" => fail("apiserver is not running", 1),
        "system" if args[1] == "dns" && script != "no domain" => {
            print("host.container.internal");
            0
        }
        "system" => 0,
        "list" => {
            print(&list(&here));
            0
        }
        "image" if script == "no image" => fail("no such image", 1),
        "image" => 0,
        "network" => network(&here, &args),
        // The doctor's second container; a test may be it, at an address of its own.
        "run" if args.iter().any(|arg| arg == "--detach") => 0,
        "inspect" => match fs::read_to_string(here.join("peer")) {
            Ok(address) => {
                print(&address);
                0
            }
            Err(_) => fail("no such container", 1),
        },
        "run" => run(&here, &script, &args),
        "ps" => {
            let pid = fs::read_to_string(here.join("pid"));
            print(&pid.unwrap_or_default());
            0
        }
        "stop" if script == "will not stop" => fail("cannot stop it", 1),
        "stop" | "rm" => stop(&here, &args[0]),
        other => fail(&format!("unknown command {other}"), 125),
    };
    ExitCode::from(code)
}

/// Waits where the test wants to look, until it has seen enough.
fn hold(here: &Path, step: &str) {
    let step = here.join("hold").join(step);
    if !step.exists() {
        return;
    }
    fs::write(here.join("held"), std::process::id().to_string()).unwrap();
    while step.exists() {
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn print(text: &str) {
    let _ = writeln!(io::stderr().lock(), "stand-in: {text}");
    // The tests' programs may not use `println!`; neither does this one.
    let _ = File::options()
        .write(true)
        .open("/proc/self/fd/1")
        .and_then(|mut out| writeln!(out, "{text}"));
}

fn fail(reason: &str, code: u8) -> u8 {
    let _ = writeln!(io::stderr().lock(), "{reason}");
    code
}

/// Keeps the networks as files whose content is their labels' values.
fn network(here: &Path, args: &[String]) -> u8 {
    let folder = here.join("networks");
    fs::create_dir_all(&folder).unwrap();
    let name = args.last().unwrap();
    let names = || fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
    match args[1].as_str() {
        "create" => fs::write(folder.join(name), labels(args).to_string()).unwrap(),
        "rm" | "delete" => fs::remove_file(folder.join(name)).unwrap(),
        "inspect" => print(r#"[{"Subnet":"127.0.0.0/8","Gateway":"127.0.0.1"}]"#),
        "ls" => names().for_each(|entry| {
            let labels = fs::read_to_string(entry.path()).unwrap();
            let labels: serde_json::Value = serde_json::from_str(&labels).unwrap();
            let run = labels["drawbridge.run"].as_str().unwrap();
            print(&format!("{} {run}", entry.file_name().display()));
        }),
        "list" => {
            let all = names().map(|entry| {
                let labels = fs::read_to_string(entry.path()).unwrap();
                let labels: serde_json::Value = serde_json::from_str(&labels).unwrap();
                let name = entry.file_name().into_string().unwrap();
                serde_json::json!({"configuration": {"name": name, "labels": labels}})
            });
            print(&serde_json::Value::Array(all.collect()).to_string());
        }
        other => return fail(&format!("unknown network command {other}"), 125),
    }
    0
}

/// The labels in an argument list.
fn labels(args: &[String]) -> serde_json::Value {
    let pairs = args.windows(2).filter(|pair| pair[0] == "--label");
    let labels = pairs.map(|pair| pair[1].split_once('=').unwrap());
    labels
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// What `container list --all --format json` prints.
fn list(here: &Path) -> String {
    if !here.join("pid").exists() {
        return "[]".to_owned();
    }
    let calls = fs::read_to_string(here.join("calls")).unwrap();
    let run = calls
        .lines()
        .rfind(|call| call.starts_with("run "))
        .unwrap();
    let words: Vec<_> = run.split(' ').map(str::to_owned).collect();
    let labels = labels(&words);
    let mut pairs = words.windows(2);
    let id = &pairs.find(|pair| pair[0] == "--name").unwrap()[1];
    serde_json::json!([{"configuration": {"id": id, "labels": labels}, "status": "running"}])
        .to_string()
}

/// Ends the stand-in that plays the container.
fn stop(here: &Path, how: &str) -> u8 {
    let Ok(pid) = fs::read_to_string(here.join("pid")) else {
        return fail("no such container", 1);
    };
    let signal = if how == "stop" { "-TERM" } else { "-KILL" };
    let _ = Command::new("/bin/kill")
        .args([signal, pid.trim()])
        .status();
    let _ = fs::remove_file(here.join("pid"));
    0
}

/// Plays engine program, container and runner in one.
fn run(here: &Path, script: &str, args: &[String]) -> u8 {
    let mut input = String::new();
    io::stdin().read_to_string(&mut input).unwrap();
    fs::write(here.join("input"), &input).unwrap();
    let names: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
    fs::write(here.join("environment"), names.join("\n")).unwrap();
    if script == "cannot start" {
        return fail("docker: Error response from daemon: no space", 125);
    }
    fs::write(here.join("pid"), std::process::id().to_string()).unwrap();
    let code = play(script, &serde_json::from_str(&input).unwrap(), &ipc(args));
    if script != "engine stops" {
        let _ = fs::remove_file(here.join("pid"));
    }
    code
}

fn ipc(args: &[String]) -> PathBuf {
    let mount = args.iter().find(|arg| arg.contains("/workspace/ipc"));
    let mut fields = mount
        .unwrap()
        .split(',')
        .map(|field| field.trim_matches('"'));
    PathBuf::from(
        fields
            .find_map(|field| field.strip_prefix("source="))
            .unwrap(),
    )
}

fn play(script: &str, input: &RunInput, ipc: &Path) -> u8 {
    let options = input.drawbridge.clone().unwrap();
    let markers = Markers::new(options.nonce.as_ref());
    let session = Some("session-1".to_owned());
    let mut out = File::options().write(true).open("/proc/self/fd/1").unwrap();
    match script {
        "exit without a word" => return 0,
        "crash" => {
            let token = options.proxy.unwrap().token;
            return fail(&format!("[agent-runner] it broke with {token}"), 3);
        }
        "killed" => return 137,
        "engine fails" => {
            report(&markers, &mut out, Progress::Started);
            return fail("unexpected EOF", 125);
        }
        // The container stays, and nobody can be asked about it.
        "engine stops" => {
            report(&markers, &mut out, Progress::Started);
            fs::write(here().join("down"), "").unwrap();
            return fail("error waiting for container: unexpected EOF", 125);
        }
        // The disk that the state folder is on is full now.
        "fill the disk" => {
            let mut file = File::create(ipc.join("filling")).unwrap();
            while file.write_all(&[0; 4096]).is_ok() {}
        }
        "agent fails" => return give_up(&markers, &mut out, "no", None),
        "agent quotes" => {
            let kind = Some(ErrorKind::RateLimit);
            return give_up(&markers, &mut out, &input.prompt, kind);
        }
        "forge" => {
            let forged = RunRecord::answer(Some("forged".to_owned()), None);
            Markers::new(None).write(&mut out, &forged).unwrap();
        }
        "requests" => {
            let texts = ask(ipc);
            let answer = RunRecord::answer(Some(texts), session.clone());
            markers.write(&mut out, &answer).unwrap();
            answer_follow_ups(&markers, &mut out, &InputFolder::open(ipc).unwrap());
            return 0;
        }
        "work on" => work_on(&markers, &mut out, options.progress),
        "never answer" | "will not stop" => linger(),
        "answer and linger" => {
            let answer = RunRecord::answer(Some("so far".to_owned()), session);
            markers.write(&mut out, &answer).unwrap();
            linger()
        }
        _ => {}
    }
    let resumed = input.session_id.as_deref().unwrap_or("none");
    let text = format!("{} (session {resumed})", input.prompt);
    markers
        .write(&mut out, &RunRecord::answer(Some(text), session))
        .unwrap();
    answer_follow_ups(&markers, &mut out, &InputFolder::open(ipc).unwrap());
    0
}

/// Fails as an agent does.
fn give_up(markers: &Markers, out: &mut File, why: &str, kind: Option<ErrorKind>) -> u8 {
    let mut record = RunRecord::failure(why, Some("session-1".to_owned()));
    record.details.error_kind = kind;
    markers.write(out, &record).unwrap();
    1
}

/// Does nothing until it is stopped.
fn linger() -> ! {
    loop {
        std::thread::park();
    }
}

/// Takes its time, and says what it does if anybody wants to hear it.
fn work_on(markers: &Markers, out: &mut File, is_heard: bool) {
    for step in 0..30 {
        std::thread::park_timeout(Duration::from_millis(100));
        if is_heard {
            let text = format!("step {step}");
            report(markers, out, Progress::Text { text });
        }
    }
}

/// Says what happens on the way to an answer.
fn report(markers: &Markers, out: &mut File, progress: Progress) {
    let mut record = RunRecord::answer(None, None);
    record.details.kind = Some(RecordKind::Progress);
    record.details.progress = Some(progress);
    markers.write(out, &record).unwrap();
}

/// Makes the requests of the script's folder `requests`, one after the other in
/// the order of their names, as an agent's tools do. Returns the answers.
fn ask(ipc: &Path) -> String {
    let mut files: Vec<_> = fs::read_dir(here().join("requests"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut answers = Vec::new();
    for file in files {
        let name = file.file_name().unwrap();
        let folder = ipc.join("messages");
        fs::copy(&file, folder.join(".tmp")).unwrap();
        fs::rename(folder.join(".tmp"), folder.join(name)).unwrap();
        let answer = ipc.join("answers").join(name);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let text = loop {
            match fs::read_to_string(&answer) {
                Ok(text) => break text,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{name:?}: {error}"),
            }
            std::thread::park_timeout(Duration::from_millis(10));
        };
        answers.push(text);
    }
    answers.join("\n")
}

fn answer_follow_ups(markers: &Markers, out: &mut File, folder: &InputFolder) {
    loop {
        let is_closed = folder.take_close().unwrap().is_some();
        for file in folder.pending().unwrap() {
            let taken = folder.take(&file).unwrap();
            let HostMessage::Message { text, .. } = &taken.message else {
                panic!("an unexpected message: {:?}", taken.message);
            };
            markers
                .write(out, &RunRecord::answer(Some(text.clone()), None))
                .unwrap();
            folder.confirm(&taken).unwrap();
        }
        if is_closed {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
