//! The program with its environment as its only configuration.

use std::fs;
use std::path::Path;
use std::process::Command;

use drawbridge_testkit::client::{Client, Response, request};
use drawbridge_testkit::{
    Canary, Ended, FAKE_KEY, Gate, Program, ProxyProgram, Upstream, eventually,
};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::program::PROGRAM;

const PLACEHOLDER: &str = "x-api-key: placeholder\r\n";

fn command(folder: &TempDir, variables: &[(&str, &str)], args: &[&str]) -> Command {
    let mut command = ProxyProgram::command(Path::new(PROGRAM), folder.path());
    command.args(args).envs(variables.iter().copied());
    command
}

fn run(variables: &[(&str, &str)], args: &[&str]) -> Ended {
    Program::run(&mut command(&tempfile::tempdir().unwrap(), variables, args))
}

/// A proxy for clients that send the placeholder.
fn start(upstream: &Upstream, variables: &[(&str, &str)], args: &[&str]) -> ProxyProgram {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(&folder, variables, &["--client-auth", "placeholder"]);
    command.args(args).env("ANTHROPIC_BASE_URL", upstream.url());
    ProxyProgram::start(Path::new(PROGRAM), command, folder, "")
}

fn with_key(upstream: &Upstream) -> ProxyProgram {
    start(upstream, &[("ANTHROPIC_API_KEY", FAKE_KEY)], &[])
}

fn post(proxy: &ProxyProgram, headers: &str) -> Response {
    let target = "/v1/messages?beta=true";
    Client::ask(proxy.address, "POST", target, headers, r#"{"a":1}"#)
}

fn stop(mut proxy: ProxyProgram) -> Ended {
    proxy.program.signal(Signal::TERM);
    proxy.program.wait()
}

fn says_ok() -> Upstream {
    Upstream::start(|_, exchange| exchange.respond_json(200, &json!({ "ok": true })))
}

#[test]
fn a_tls_upstream_is_trusted_by_an_extra_root_only() {
    let upstream =
        Upstream::start_tls(|_, exchange| exchange.respond_json(200, &json!({ "tls": true })));
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, upstream.authority().unwrap()).unwrap();
    let roots = roots.display().to_string();
    let key = [("ANTHROPIC_API_KEY", FAKE_KEY)];
    let proxy = start(&upstream, &key, &["--extra-roots", &roots]);
    assert_eq!(post(&proxy, PLACEHOLDER).json(), json!({ "tls": true }));
    let distrustful = with_key(&upstream);
    assert_eq!(post(&distrustful, PLACEHOLDER).status, 502);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn the_key_is_in_no_output_and_no_command_line() {
    let upstream = says_ok();
    let proxy = with_key(&upstream);
    let response = post(&proxy, PLACEHOLDER);
    let refused = post(&proxy, "x-api-key: wrong\r\n");
    let canary = Canary::new(FAKE_KEY);
    canary.assert_absent("a response", response.head + &response.body);
    canary.assert_absent("a refusal", refused.head + &refused.body);
    let id = proxy.program.id();
    let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    canary.assert_absent("the command line", line);
    let ended = stop(proxy);
    assert_eq!(ended.code, 0, "{id} {}", ended.err);
    assert!(
        !ended.err.contains('\u{1b}'),
        "colours in a file: {}",
        ended.err
    );
    canary.assert_absent("the log", ended.out + &ended.err);
}

/// The credential may come later; until then nothing is forwarded.
#[test]
fn without_a_credential_requests_are_refused_and_the_log_names_what_was_looked_at() {
    let upstream = says_ok();
    let proxy = start(&upstream, &[], &[]);
    let response = post(&proxy, PLACEHOLDER);
    assert_eq!(
        (response.status, &response.json()["type"]),
        (503, &json!("error"))
    );
    assert_eq!(upstream.requests().len(), 0);
    let ended = stop(proxy);
    for name in [
        "ANTHROPIC_API_KEY",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "ANTHROPIC_AUTH_TOKEN",
    ] {
        assert!(ended.err.contains(name), "{}", ended.err);
    }
}

#[test]
fn a_wildcard_address_is_refused_unless_allowed() {
    let key = [("ANTHROPIC_API_KEY", FAKE_KEY)];
    for wildcard in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
        let ended = run(&key, &["--bind", wildcard, "--port", "0"]);
        assert_eq!(ended.code, 3, "{wildcard}: {}", ended.err);
        assert!(ended.err.contains("--allow-wildcard"), "{}", ended.err);
    }
}

#[test]
fn a_dotenv_in_the_working_directory_is_read() {
    let upstream = says_ok();
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "ANTHROPIC_API_KEY={FAKE_KEY}\nANTHROPIC_BASE_URL={}\n",
        upstream.url()
    );
    fs::write(folder.path().join(".env"), text).unwrap();
    let socket = folder.path().join("proxy.sock");
    let args = [
        "--client-auth",
        "placeholder",
        "--socket",
        &socket.display().to_string(),
    ];
    let program = Program::start(&mut command(&folder, &[], &args));
    eventually("the socket", || socket.exists().then_some(()));
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let text = "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: placeholder\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    std::io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(upstream.requests()[0].all("x-api-key"), [FAKE_KEY]);
    drop(program);
}

/// NanoClaw's documents name that file, and its proxy does not read it.
#[test]
fn host_and_port_may_stand_in_the_dotenv() {
    for (line, expected) in [
        ("CREDENTIAL_PROXY_HOST=0.0.0.0", "--allow-wildcard"),
        ("CREDENTIAL_PROXY_PORT=many", "CREDENTIAL_PROXY_PORT"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".env"), format!("{line}\n")).unwrap();
        let key = [("ANTHROPIC_API_KEY", FAKE_KEY)];
        let ended = Program::run(&mut command(&folder, &key, &[]));
        assert_ne!(ended.code, 0, "{line}");
        assert!(ended.err.contains(expected), "{line}: {}", ended.err);
    }
}

#[test]
fn a_stream_in_flight_is_finished_before_the_proxy_ends() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |_, exchange| {
        exchange.begin(200, &[("content-type", "text/event-stream")])?;
        exchange.event(&json!({ "type": "ping" }))?;
        held.pass();
        exchange.event(&json!({ "type": "pong" }))?;
        exchange.end()
    });
    let mut proxy = with_key(&upstream);
    let mut client = Client::connect(proxy.address);
    client.send(&request(
        proxy.address,
        "POST",
        "/v1/messages",
        PLACEHOLDER,
        "{}",
    ));
    client.read_until("ping").unwrap();
    proxy.program.signal(Signal::TERM);
    eventually("the port to be closed", || {
        std::net::TcpStream::connect(proxy.address)
            .is_err()
            .then_some(())
    });
    gate.open();
    client.read_until("pong").unwrap();
    client.read_until("\r\n0\r\n\r\n").unwrap();
    assert_eq!(proxy.program.wait().code, 0);
}
