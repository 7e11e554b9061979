//! What `credential-proxy` promises to agents, operators and upstreams.

mod streams;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use drawbridge_testkit::client::Client;
use drawbridge_testkit::{Canary, Ended, FAKE_KEY, FAKE_OAUTH, Program, Upstream, program_path};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

/// A proxy on a loopback port, with an environment of its own.
struct Proxy {
    program: Program,
    address: SocketAddr,
    _folder: TempDir,
}

const PLACEHOLDER: &str = "x-api-key: placeholder\r\n";

fn command(folder: &TempDir, variables: &[(&str, &str)], args: &[&str]) -> Command {
    let mut command = Command::new(program_path("credential-proxy-dup"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .args(args)
        .env_clear()
        .env("PATH", path)
        .current_dir(folder.path());
    command
        .env("HOME", folder.path())
        .envs(variables.iter().copied());
    command
}

fn run(variables: &[(&str, &str)], args: &[&str]) -> Ended {
    Program::run(&mut command(&tempfile::tempdir().unwrap(), variables, args))
}

impl Proxy {
    fn start(upstream: &Upstream, variables: &[(&str, &str)], args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = upstream.url();
        let variables = [&[("ANTHROPIC_BASE_URL", url.as_str())][..], variables].concat();
        let args = [&["--bind", "127.0.0.1", "--port", "0"][..], args].concat();
        let program = Program::start(&mut command(&folder, &variables, &args));
        let address = program.wait_for_err("its address", |err| {
            let (_, rest) = err.split_once("127.0.0.1:")?;
            let port = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            format!("127.0.0.1:{port}").parse().ok()
        });
        Self {
            program,
            address,
            _folder: folder,
        }
    }

    /// With an API key, for clients that send the placeholder.
    fn with_key(upstream: &Upstream) -> Self {
        let key = [("ANTHROPIC_API_KEY", FAKE_KEY)];
        Self::start(upstream, &key, &["--client-auth", "placeholder"])
    }

    fn post(&self, headers: &str) -> drawbridge_testkit::client::Response {
        Client::ask(
            self.address,
            "POST",
            "/v1/messages?beta=true",
            headers,
            r#"{"a":1}"#,
        )
    }

    fn stop(mut self) -> Ended {
        self.program.signal(Signal::TERM);
        self.program.wait()
    }
}

fn says_ok() -> Upstream {
    Upstream::start(|_, exchange| exchange.respond_json(200, &json!({ "ok": true })))
}

#[test]
fn the_placeholder_is_replaced_by_the_key_and_nothing_else_changes() {
    let upstream = says_ok();
    let proxy = Proxy::with_key(&upstream);
    let headers = format!(
        "{PLACEHOLDER}authorization: Bearer mine\r\ncookie: a=b\r\nanthropic-beta: one,two\r\n\
         connection: x-hop\r\nx-hop: 1\r\nproxy-authorization: Basic eDp5\r\n"
    );
    let response = proxy.post(&headers);
    assert_eq!(
        (response.status, response.json()),
        (200, json!({ "ok": true }))
    );
    let seen = upstream.requests().remove(0);
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/v1/messages?beta=true")
    );
    assert_eq!(seen.body, br#"{"a":1}"#);
    assert_eq!(seen.all("x-api-key"), [FAKE_KEY]);
    assert_eq!(seen.header("anthropic-beta"), Some("one,two"));
    for stripped in ["authorization", "x-hop", "proxy-authorization"] {
        assert_eq!(seen.header(stripped), None, "{stripped}");
    }
    assert_eq!(seen.header("host"), upstream.url().strip_prefix("http://"));
}

#[test]
fn an_oauth_token_is_injected_as_bearer_with_its_beta_header() {
    let upstream = says_ok();
    let token = [("CLAUDE_CODE_OAUTH_TOKEN", FAKE_OAUTH)];
    let proxy = Proxy::start(&upstream, &token, &["--client-auth", "placeholder"]);
    let response = proxy.post("authorization: Bearer placeholder\r\nanthropic-beta: one\r\n");
    assert_eq!(response.status, 200, "{response:?}");
    let seen = upstream.requests().remove(0);
    assert_eq!(seen.all("authorization"), [format!("Bearer {FAKE_OAUTH}")]);
    assert_eq!(seen.header("x-api-key"), None);
    let betas = seen.all("anthropic-beta").join(",");
    assert!(
        betas.contains("oauth-2025-04-20") && betas.contains("one"),
        "{betas}"
    );
}

#[test]
fn a_request_without_a_known_session_never_reaches_the_upstream() {
    let upstream = says_ok();
    let proxy = Proxy::start(&upstream, &[("ANTHROPIC_API_KEY", FAKE_KEY)], &[]);
    let guesses = [
        "",
        PLACEHOLDER,
        "authorization: Bearer x\r\n",
        "x-api-key: dbs_0000\r\n",
    ];
    for headers in guesses {
        let response = proxy.post(headers);
        assert_eq!(response.status, 401, "{headers:?}: {response:?}");
        // The shape of the provider's errors, and no use in trying again.
        assert_eq!(response.json()["type"], "error");
        assert_eq!(response.json()["error"]["type"], "authentication_error");
        assert_eq!(response.header("x-should-retry"), Some("false"));
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn what_the_preset_does_not_allow_is_refused() {
    let upstream = says_ok();
    let proxy = Proxy::with_key(&upstream);
    let cases = [
        ("GET", "/v1/files", 403),
        ("DELETE", "/v1/messages", 403),
        ("POST", "/v1/messages/../files", 400),
        ("POST", "/v1/%6dessages", 403),
        ("POST", "//v1/messages", 400),
    ];
    for (method, target, status) in cases {
        let response = Client::ask(proxy.address, method, target, PLACEHOLDER, "");
        assert!(
            (400..405).contains(&response.status),
            "{method} {target}: {response:?}"
        );
        assert_eq!(
            response.json()["type"],
            "error",
            "{method} {target} {status}"
        );
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn the_base_path_of_the_upstream_is_kept() {
    let upstream = says_ok();
    let url = format!("{}/gateway/team", upstream.url());
    let variables = [
        ("ANTHROPIC_BASE_URL", url.as_str()),
        ("ANTHROPIC_API_KEY", FAKE_KEY),
    ];
    let proxy = Proxy::start(&upstream, &variables, &["--client-auth", "placeholder"]);
    assert_eq!(proxy.post(PLACEHOLDER).status, 200);
    assert_eq!(
        upstream.requests()[0].target,
        "/gateway/team/v1/messages?beta=true"
    );
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
    let args = [
        "--client-auth",
        "placeholder",
        "--extra-roots",
        roots.as_str(),
    ];
    let proxy = Proxy::start(&upstream, &key, &args);
    assert_eq!(proxy.post(PLACEHOLDER).json(), json!({ "tls": true }));
    let distrustful = Proxy::with_key(&upstream);
    assert_eq!(distrustful.post(PLACEHOLDER).status, 502);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn an_upstream_that_cannot_be_reached_is_a_502_in_the_providers_shape() {
    let upstream = says_ok();
    let proxy = Proxy::with_key(&upstream);
    drop(upstream);
    let response = drawbridge_testkit::eventually("the upstream's end", || {
        let response = proxy.post(PLACEHOLDER);
        (response.status != 200).then_some(response)
    });
    assert_eq!(
        (response.status, &response.json()["type"]),
        (502, &json!("error"))
    );
}

#[test]
fn the_key_is_in_no_output_and_no_command_line() {
    let upstream = says_ok();
    let proxy = Proxy::with_key(&upstream);
    let response = proxy.post(PLACEHOLDER);
    let refused = proxy.post("x-api-key: wrong\r\n");
    let canary = Canary::new(FAKE_KEY);
    canary.assert_absent("a response", response.head + &response.body);
    canary.assert_absent("a refusal", refused.head + &refused.body);
    let id = proxy.program.id();
    let ended = proxy.stop();
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
    let proxy = Proxy::start(&upstream, &[], &["--client-auth", "placeholder"]);
    let response = proxy.post(PLACEHOLDER);
    assert_eq!(
        (response.status, &response.json()["type"]),
        (503, &json!("error"))
    );
    assert_eq!(upstream.requests().len(), 0);
    let ended = proxy.stop();
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
fn a_port_in_use_is_named_with_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let key = [("ANTHROPIC_API_KEY", FAKE_KEY)];
    let ended = run(&key, &["--bind", "127.0.0.1", "--port", &port]);
    assert_eq!(ended.code, 3, "{}", ended.err);
    assert!(
        ended.err.contains(&port) && ended.err.contains("hint: "),
        "{}",
        ended.err
    );
}

/// An agent must not be able to watch the proxy.
#[test]
fn health_is_not_on_the_listener_that_agents_reach() {
    let upstream = says_ok();
    let proxy = Proxy::with_key(&upstream);
    for headers in ["", PLACEHOLDER] {
        let response = Client::ask(proxy.address, "GET", "/healthz", headers, "");
        assert!([401, 403, 404].contains(&response.status), "{response:?}");
    }
    assert_eq!(upstream.requests().len(), 0);
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
    drawbridge_testkit::eventually("the socket", || socket.exists().then_some(()));
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
