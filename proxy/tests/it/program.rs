//! The program, its configuration file and its admin surface.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use drawbridge_testkit::{Ended, Program, ProxyProgram};
use rustix::process::Signal;

use crate::support::{Client, KEY, Upstream};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_credential-proxy");

/// The admin client's commands in text form.
trait Admin {
    fn text(&self, args: &[&str]) -> (bool, String);
    fn write_config(&self, config: &str);
}

impl Admin for ProxyProgram {
    fn text(&self, args: &[&str]) -> (bool, String) {
        both(self.try_admin(args))
    }

    fn write_config(&self, config: &str) {
        std::fs::write(self.path("drawbridge.toml"), config).unwrap();
    }
}

fn start(config: &str) -> ProxyProgram {
    let folder = tempfile::tempdir().unwrap();
    start_by(command(folder.path()), folder, config)
}

/// Starts it by a command that is given its arguments.
pub(crate) fn start_by(
    mut command: Command,
    folder: tempfile::TempDir,
    config: &str,
) -> ProxyProgram {
    command.args(["--health", "127.0.0.1:0"]);
    let running = ProxyProgram::start(Path::new(PROGRAM), command, folder, config);
    // The admin socket is opened after the listener that the starter waits for.
    running.wait_for_log("admin socket is ");
    running
}

fn health(running: &ProxyProgram) -> SocketAddr {
    let address = running.wait_for_log("health and metrics on ");
    address.parse().unwrap()
}

fn command(folder: &Path) -> Command {
    command_of(PROGRAM, folder)
}

pub(crate) fn command_of(program: &str, folder: &Path) -> Command {
    let mut command = ProxyProgram::command(Path::new(program), folder);
    command.env("FAKE_KEY", KEY);
    command
}

/// Whether the command succeeded, and everything it printed.
pub(crate) fn run(command: &mut Command) -> (bool, String) {
    both(Program::run(command))
}

fn both(ended: Ended) -> (bool, String) {
    (ended.code == 0, ended.out + &ended.err)
}

pub(crate) fn config(upstream: &Upstream) -> String {
    let url = upstream.url();
    let credential = "credential = { source = \"environment\", variable = \"FAKE_KEY\" }";
    format!(
        "[[route]]\npreset = \"anthropic\"\nupstream = \"{url}\"\n{credential}\n\
         [[route]]\nname = \"other\"\nupstream = \"{url}/base\"\n{credential}\n\
         injection = {{ query = \"sig\" }}\nallow = [\"GET /data/*\"]\n"
    )
}

#[test]
fn sessions_are_issued_listed_and_revoked_over_the_admin_socket() {
    let upstream = Upstream::answering();
    let running = start(&config(&upstream));
    let mode = std::fs::metadata(running.path("admin.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let session = running.issue(&["--route", "other", "--run", "run-12345678"]);
    let token = session["token"].as_str().unwrap();
    assert_eq!(running.get("/v1/models", token), 403);
    assert_eq!(running.get("/other/data/1?sig=attacker&a=1", token), 200);
    assert_eq!(
        upstream.next().line,
        format!("GET /base/data/1?a=1&sig={KEY} HTTP/1.1")
    );

    let (_, list) = running.text(&["session", "list"]);
    assert!(
        list.contains("run-12345678") && !list.contains(token),
        "{list}"
    );
    let id = session["id"].as_str().unwrap();
    assert!(running.text(&["session", "revoke", id]).0);
    assert_eq!(running.get("/other/data/1", token), 401);
    let (is_done, text) = running.text(&["session", "revoke", id]);
    assert!(
        !is_done && text.contains("no session has this id"),
        "{text}"
    );
}

#[test]
fn a_sessions_own_rules_and_rate_narrow_the_route() {
    let upstream = Upstream::answering();
    let running = start(&config(&upstream));
    let args = ["--allow", "GET /v1/models", "--requests-per-minute", "2"];
    let session = running.issue(&args);
    let token = session["token"].as_str().unwrap();
    let statuses: Vec<_> = ["/v1/models/x", "/v1/models", "/v1/models", "/v1/models"]
        .map(|path| running.get(path, token))
        .into();
    assert_eq!(statuses, [403, 200, 200, 429]);
}

#[test]
fn class_30_no_container_facing_listener_serves_the_admin_surface() {
    let upstream = Upstream::answering();
    let running = start(&config(&upstream));
    let session = running.issue(&[]);
    let token = session["token"].as_str().unwrap();
    for path in ["/healthz", "/metrics", "/sessions", "/reload", "/stats"] {
        assert_eq!(running.get(path, token), 403, "{path}");
        assert_eq!(running.get(path, "placeholder"), 401, "{path}");
    }
    let mut client = Client::new(TcpStream::connect(health(&running)).unwrap());
    for (path, status) in [("/healthz", 200), ("/metrics", 200), ("/sessions", 404)] {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        assert_eq!(client.answer().status, status, "{path}");
    }
    upstream.assert_unused();
}

#[test]
fn the_admin_surface_outlasts_a_lack_of_descriptors() {
    let upstream = Upstream::answering();
    let folder = tempfile::tempdir().unwrap();
    let mut shell = command_of("sh", folder.path());
    shell.args([
        "-c",
        "ulimit -n 64 && exec \"$0\" --workers 1 \"$@\"",
        PROGRAM,
    ]);
    let running = start_by(shell, folder, &config(&upstream));
    let health = health(&running);
    let connect = || TcpStream::connect(health).unwrap();
    let crowd: Vec<_> = (0..100).map(|_| connect()).collect();
    running.wait_for_log("could not be accepted");
    drop(crowd);
    let mut client = Client::new(connect());
    client.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(client.answer().status, 200);
}

#[test]
fn a_session_cannot_last_for_ever() {
    let upstream = Upstream::answering();
    let running = start(&config(&upstream));
    for seconds in ["0", "18446744073709551615"] {
        let (is_done, text) = running.text(&["session", "issue", "--lifetime-seconds", seconds]);
        assert!(!is_done && text.contains("must be 1 to"), "{text}");
    }
}

#[test]
fn a_reload_takes_effect_and_a_bad_one_keeps_the_old_routes() {
    let upstream = Upstream::answering();
    let running = start(&config(&upstream));
    let session = running.issue(&[]);
    let token = session["token"].as_str().unwrap();

    running.write_config("[[route]]\npreset = \"nonsense\"");
    let (is_done, text) = running.text(&["reload"]);
    assert!(
        !is_done && text.contains("nonsense") && text.contains("stays in use"),
        "{text}"
    );
    assert_eq!(running.get("/other/data/1", token), 200);

    let missing = config(&upstream).replace("FAKE_KEY", "ABSENT_KEY");
    running.write_config(&missing);
    let (is_done, text) = running.text(&["reload"]);
    assert!(!is_done && text.contains("ABSENT_KEY"), "{text}");
    assert_eq!(running.get("/v1/models", token), 200);

    running.write_config(&config(&upstream).replace("\"other\"", "\"renamed\""));
    assert!(running.text(&["reload"]).0);
    assert_eq!(running.get("/renamed/data/1", token), 200);
    assert_eq!(running.get("/other/data/1", token), 403);
}

#[test]
fn a_signal_reloads_and_another_ends_the_program() {
    let upstream = Upstream::answering();
    let mut running = start(&config(&upstream));
    running.program.signal(Signal::HUP);
    running.wait_for_log("reloaded: ");
    running.program.signal(Signal::TERM);
    assert_eq!(running.program.wait().code, 0);
    assert!(!running.path("admin.sock").exists());
}

#[test]
fn check_tells_of_every_route_without_showing_a_key() {
    let upstream = Upstream::answering();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("drawbridge.toml");
    std::fs::write(&file, config(&upstream)).unwrap();
    let (is_good, text) = run(command(folder.path()).arg("check"));
    assert!(is_good, "{text}");
    assert!(
        text.contains("anthropic: ok") && text.contains("other: ok"),
        "{text}"
    );
    assert!(!text.contains("CANARY"), "{text}");

    std::fs::write(&file, config(&upstream).replacen("FAKE_KEY", "ABSENT", 1)).unwrap();
    let (is_good, text) = run(command(folder.path()).arg("check"));
    assert!(
        !is_good && text.contains("anthropic: no credential"),
        "{text}"
    );
    assert!(
        text.contains("ABSENT") && text.contains("other: ok"),
        "{text}"
    );

    std::fs::write(&file, "[proxy]\nprot = 1\n").unwrap();
    let (is_good, text) = run(command(folder.path()).arg("check"));
    assert!(
        !is_good && text.contains("drawbridge.toml line 2"),
        "{text}"
    );
    assert!(text.contains("`prot`") && text.contains("`port`"), "{text}");
}

#[test]
fn auth_mode_mirrors_nanoclaws_rule() {
    let folder = tempfile::tempdir().unwrap();
    for (dotenv, mode) in [
        (
            "ANTHROPIC_API_KEY=sk-ant-fake\nCLAUDE_CODE_OAUTH_TOKEN=x\n",
            "api-key",
        ),
        ("CLAUDE_CODE_OAUTH_TOKEN=fake\n", "oauth"),
        ("ANTHROPIC_AUTH_TOKEN=fake\n", "oauth"),
    ] {
        std::fs::write(folder.path().join(".env"), dotenv).unwrap();
        let (is_done, text) = run(command(folder.path()).arg("auth-mode"));
        assert!(is_done && text.trim() == mode, "{dotenv}: {text}");
    }
}

#[test]
fn a_proxy_that_cannot_listen_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "--bind",
        "127.0.0.1",
        "--health",
        "10.0.0.1:1",
        "--port",
        "0",
    ];
    let (is_done, text) = run(command(folder.path()).args(args));
    assert!(!is_done && text.contains("loopback"), "{text}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = Program::run(command(folder.path()).args(["--bind", "127.0.0.1", "--port", &port]));
    assert_eq!(ended.code, 3, "{}", ended.err);
    assert!(
        ended.err.contains(&port) && ended.err.contains("hint: "),
        "{}",
        ended.err
    );
    let (is_done, text) = run(command(folder.path()).args(["reload", "--admin-socket", "none"]));
    assert!(
        !is_done && text.contains("hint: start credential-proxy"),
        "{text}"
    );
}
