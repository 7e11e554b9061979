//! Credentials that change, end and cannot be renewed, while requests come.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use drawbridge_proxy::DrainOutcome;
use drawbridge_proxy::config::ProxyConfig;
use drawbridge_settings::{Document, Environment};
use serde_json::{Value, json};

use crate::support::{Answer, DEADLINE, Proxy, Seen, Upstream};

const OLD: &str = "CANARY-access-old";
const NEW: &str = "CANARY-access-new";

/// The Messages API, which knows the new token only, and the token endpoint,
/// whose next answers are scripted.
struct Vendor {
    upstream: Upstream,
    folder: tempfile::TempDir,
}

/// Answers of the token endpoint, the first one first; then it gives tokens.
type Script = Arc<Mutex<Vec<&'static str>>>;

const FAILS: &str = "HTTP/1.1 503 No\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
const REFUSES: &str = "HTTP/1.1 400 No\r\ncontent-length: 25\r\n\r\n{\"error\":\"invalid_grant\"}";

impl Vendor {
    fn new(script: &[&'static str], gate: Option<Receiver<()>>) -> Self {
        let script: Script = Arc::new(Mutex::new(script.to_vec()));
        let gate = Arc::new(Mutex::new(gate));
        let upstream = Upstream::start(move |request, stream| {
            if request.line.starts_with("POST /token ") {
                if let Some(gate) = &*gate.lock().unwrap() {
                    gate.recv_timeout(DEADLINE).unwrap();
                }
                answer_token_request(&script, stream);
            } else {
                answer_message(request, stream);
            }
        });
        let vendor = Self {
            upstream,
            folder: tempfile::tempdir().unwrap(),
        };
        vendor.write_config();
        vendor
    }

    fn write_config(&self) {
        let config = format!(
            "[[route]]\npreset = \"anthropic\"\nupstream = \"{0}\"\n\
             [route.credential]\nsource = \"claude-login\"\npath = \"login.json\"\n\
             token-endpoint = \"{0}/token\"\n",
            self.upstream.url()
        );
        std::fs::write(self.folder.path().join("drawbridge.toml"), config).unwrap();
    }

    /// Writes a login with the old token, which ends at a moment from now.
    fn log_in(&self, ends_in: i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let end = now.as_secs().saturating_add_signed(ends_in) * 1000;
        let login = json!({ "claudeAiOauth": {
            "accessToken": OLD, "refreshToken": "CANARY-refresh-old", "expiresAt": end,
        }});
        std::fs::write(self.login(), login.to_string()).unwrap();
    }

    fn login(&self) -> PathBuf {
        self.folder.path().join("login.json")
    }

    fn saved(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.login()).unwrap()).unwrap()
    }

    fn config(&self) -> ProxyConfig {
        read_config(self.folder.path())
    }

    /// The next request to the token endpoint.
    fn next_token_request(&self) -> Seen {
        loop {
            let seen = self.upstream.next();
            if seen.line.starts_with("POST /token ") {
                return seen;
            }
        }
    }
}

fn read_config(folder: &Path) -> ProxyConfig {
    let file = Document::read(&folder.join("drawbridge.toml")).unwrap();
    let environment = Environment::new([("HOME", folder.to_str().unwrap())], folder);
    ProxyConfig::resolve(Some(&file), &environment).unwrap()
}

fn answer_token_request(script: &Script, stream: &mut TcpStream) {
    let mut script = script.lock().unwrap();
    let answer = if script.is_empty() {
        let body = json!({
            "access_token": NEW, "refresh_token": "CANARY-refresh-new", "expires_in": 3600,
        })
        .to_string();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    } else {
        script.remove(0).to_owned()
    };
    let _ = stream.write_all(answer.as_bytes());
}

fn answer_message(request: &Seen, stream: &mut TcpStream) {
    let status = match request.get("authorization") {
        Some("Bearer CANARY-access-new") => "200 OK",
        _ => "401 Unauthorized",
    };
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
}

fn ask(proxy: &Proxy) -> Answer {
    proxy.connect().send(proxy.post("{}")).answer()
}

/// Asks until the answer has this status.
fn ask_until(proxy: &Proxy, status: u16) -> Answer {
    let start = Instant::now();
    loop {
        let answer = ask(proxy);
        if answer.status == status {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "still {answer:?}");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_token_that_the_upstream_refuses_is_renewed_for_the_next_request() {
    let vendor = Vendor::new(&[], None);
    vendor.log_in(3600);
    let proxy = Proxy::start(vendor.config());
    assert_eq!(ask(&proxy).status, 401);
    assert_eq!(ask(&proxy).status, 200, "it waited for the renewal");
    let asked = vendor.next_token_request();
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(body["refresh_token"], "CANARY-refresh-old");
    assert!(!format!("{asked:?}").contains(proxy.session.token()));
    assert_eq!(
        vendor.saved()["claudeAiOauth"]["refreshToken"],
        "CANARY-refresh-new"
    );
}

#[test]
fn a_token_that_has_ended_is_renewed_before_the_first_request() {
    let vendor = Vendor::new(&[], None);
    vendor.log_in(-60);
    let proxy = Proxy::start(vendor.config());
    assert_eq!(ask(&proxy).status, 200);
    vendor.next_token_request();
    let request = vendor.upstream.next();
    assert_eq!(
        request.get("authorization"),
        Some("Bearer CANARY-access-new")
    );
    assert_eq!(request.get("anthropic-beta"), Some("oauth-2025-04-20"));
    assert_eq!(request.get("x-api-key"), None);
}

#[test]
fn an_outage_of_the_issuer_may_be_retried_and_passes() {
    let vendor = Vendor::new(&[FAILS], None);
    vendor.log_in(-60);
    let proxy = Proxy::start(vendor.config());
    let answer = ask(&proxy);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.head.get("retry-after"), Some("7"));
    assert_eq!(answer.head.get("x-should-retry"), None);
    assert!(
        answer.text().contains("cannot be renewed at the moment"),
        "{answer:?}"
    );
    ask_until(&proxy, 200);
}

#[test]
fn a_refused_login_is_not_retried_and_a_new_one_needs_no_restart() {
    let vendor = Vendor::new(&[REFUSES], None);
    vendor.log_in(-60);
    let proxy = Proxy::start(vendor.config());
    let answer = ask(&proxy);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.head.get("x-should-retry"), Some("false"));
    assert!(!answer.text().contains("CANARY"));
    let login = vendor.saved().to_string().replace("-old", "-new");
    let login = login.replace("\"expiresAt\":", "\"expiresAt\":9");
    std::fs::write(vendor.login(), login).unwrap();
    ask_until(&proxy, 200);
}

#[test]
fn a_missing_login_is_used_when_it_comes() {
    let vendor = Vendor::new(&[], None);
    let proxy = Proxy::start(vendor.config());
    let answer = ask(&proxy);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.head.get("x-should-retry"), Some("false"));
    vendor.log_in(-60);
    ask_until(&proxy, 200);
}

#[test]
fn the_end_of_the_proxy_waits_for_a_renewal_in_flight() {
    let (open, gate) = channel();
    let vendor = Vendor::new(&[], Some(gate));
    vendor.log_in(300);
    let proxy = Proxy::start(vendor.config());
    assert_eq!(ask(&proxy).status, 401);
    vendor.next_token_request();
    let opener = std::thread::spawn(move || open.send(()).unwrap());
    let outcome = block_on(proxy.handle.shutdown(Duration::from_secs(5)));
    assert_eq!(outcome, DrainOutcome::Drained);
    assert_eq!(
        vendor.saved()["claudeAiOauth"]["refreshToken"],
        "CANARY-refresh-new"
    );
    opener.join().unwrap();
}

#[test]
fn an_edited_key_file_is_used_by_the_next_requests() {
    let upstream = Upstream::answering();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "first-key").unwrap();
    let config = format!(
        "[[route]]\npreset = \"anthropic\"\nupstream = \"{}\"\n\
         credential = {{ source = \"file\", path = \"key\" }}\n",
        upstream.url()
    );
    std::fs::write(folder.path().join("drawbridge.toml"), config).unwrap();
    let proxy = Proxy::start(read_config(folder.path()));
    assert_eq!(ask(&proxy).status, 200);
    assert_eq!(upstream.next().get("x-api-key"), Some("first-key"));
    std::fs::write(&key, "second-key").unwrap();
    let start = Instant::now();
    while upstream_key(&proxy, &upstream) != "second-key" {
        assert!(start.elapsed() < DEADLINE);
    }
    // An empty file is no key: the last good one stays in use.
    std::fs::write(&key, "").unwrap();
    proxy.handle.on_reload(Box::new({
        let folder = folder.path().to_owned();
        move || Ok(read_config(&folder))
    }));
    let problem = block_on(proxy.handle.reload()).unwrap_err();
    assert!(problem.contains("it is empty"), "{problem}");
    assert_eq!(upstream_key(&proxy, &upstream), "second-key");
}

fn upstream_key(proxy: &Proxy, upstream: &Upstream) -> String {
    assert_eq!(ask(proxy).status, 200);
    upstream.next().get("x-api-key").unwrap().to_owned()
}

#[test]
fn check_renews_a_login_that_has_ended_and_shows_no_token() {
    let vendor = Vendor::new(&[REFUSES], None);
    vendor.log_in(-60);
    let check = || {
        let output = Command::new(env!("CARGO_BIN_EXE_credential-proxy"))
            .arg("check")
            .env_clear()
            .current_dir(vendor.folder.path())
            .stdout(std::fs::File::create(vendor.folder.path().join("out")).unwrap())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        let text = std::fs::read_to_string(vendor.folder.path().join("out")).unwrap();
        assert!(!text.contains("CANARY"), "{text}");
        (output.success(), text)
    };
    let (is_ok, text) = check();
    assert!(!is_ok && text.contains("refused the login"), "{text}");
    assert!(text.contains("hint: log in again"), "{text}");
    let (is_ok, text) = check();
    assert!(is_ok && text.contains("Claude login"), "{text}");
    assert_eq!(vendor.saved()["claudeAiOauth"]["accessToken"], NEW);
}
