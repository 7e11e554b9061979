//! The real Claude Code in one conversation through one proxy, while the
//! upstream fails in every way it can.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use drawbridge_testkit::{Answer, FAKE_OAUTH, Model, Piece, Program, ProxyProgram, Upstream};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Test;
use crate::proxy;

pub(crate) const TESTS: &[Test] = &[
    (
        "a_token_that_ends_within_a_conversation_is_renewed",
        a_token_that_ends_within_a_conversation_is_renewed,
    ),
    (
        "a_token_that_is_refused_within_a_conversation_is_renewed",
        a_token_that_is_refused_within_a_conversation_is_renewed,
    ),
    (
        "each_failure_is_told_and_the_next_turn_works",
        each_failure_is_told_and_the_next_turn_works,
    ),
];

const RENEWED: &str = "sk-ant-oat-fake-CANARY-renewed-43210";

fn program() -> Result<PathBuf, String> {
    let path = std::env::var_os("DRAWBRIDGE_TESTS_CLAUDE").map(PathBuf::from);
    path.ok_or_else(|| "DRAWBRIDGE_TESTS_CLAUDE does not say where Claude Code is".to_owned())
}

pub(crate) fn availability() -> Result<(), String> {
    let program = program()?;
    program
        .is_file()
        .then_some(())
        .ok_or_else(|| format!("{} is missing", program.display()))
}

/// A conversation with Claude Code.
struct Conversation {
    program: Program,
    _home: TempDir,
}

impl Conversation {
    /// `variable` is where it gets its key from.
    fn start(proxy: &ProxyProgram, variable: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(program().unwrap());
        command
            .args(["--print", "--verbose", "--input-format", "stream-json"])
            .args(["--output-format", "stream-json"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home.path())
            .current_dir(home.path())
            .env("ANTHROPIC_BASE_URL", format!("http://{}", proxy.address))
            .env(variable, proxy.token())
            // Nothing of a test may reach the internet.
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .env("NO_PROXY", "127.0.0.1")
            .env("DISABLE_AUTOUPDATER", "1")
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
        let program = Program::start(&mut command);
        Self {
            program,
            _home: home,
        }
    }

    /// Says something and waits for the result of that turn.
    fn say(&mut self, text: &str) -> Value {
        let before = results(&self.program.out()).len();
        let message = json!({ "type": "user", "message": { "role": "user", "content": text } });
        self.program.write(&format!("{message}\n"));
        self.program.wait_for_out("a result", |out| {
            let results = results(out);
            (results.len() > before).then(|| results[before].clone())
        })
    }

    /// Says something that is answered well.
    fn say_well(&mut self, text: &str, expected: &str) {
        let result = self.say(text);
        assert_eq!(
            (&result["is_error"], &result["result"]),
            (&false.into(), &expected.into()),
            "{result}"
        );
    }
}

fn results(out: &str) -> Vec<Value> {
    let lines = out
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["type"] == "result").collect()
}

/// The vendor: a model that knows one token at a time, and the issuer of the
/// next one.
fn vendor(is_old_good: &Arc<AtomicBool>) -> Upstream {
    let is_old_good = Arc::clone(is_old_good);
    let model = Model::script(|turn| Answer::Text(last_word(&turn.history()).to_owned()));
    Upstream::start(move |request, exchange| {
        if request.path() == "/token" {
            let tokens = json!({
                "access_token": RENEWED, "refresh_token": "fake-refresh-2", "expires_in": 3600,
            });
            return exchange.respond_json(200, &tokens);
        }
        let bearer = request.header("authorization").unwrap_or_default();
        let is_old = bearer == format!("Bearer {FAKE_OAUTH}");
        let is_good = bearer == format!("Bearer {RENEWED}") || is_old;
        if is_good && (!is_old || is_old_good.load(Ordering::SeqCst)) {
            return model(request, exchange);
        }
        let error = json!({ "type": "error", "error": {
            "type": "authentication_error", "message": "OAuth token has expired",
        }});
        exchange.respond_json(401, &error)
    })
}

/// A proxy with a Claude login that ends so many seconds from now.
fn with_login(upstream: &Upstream, ends_in: u64) -> ProxyProgram {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let login = json!({ "claudeAiOauth": {
        "accessToken": FAKE_OAUTH, "refreshToken": "fake-refresh-1",
        "expiresAt": (now.as_secs() + ends_in) * 1000, "scopes": ["user:inference"],
        "subscriptionType": "max",
    }});
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("login.json"), login.to_string()).unwrap();
    let configuration = format!(
        "[[route]]\npreset = \"anthropic\"\nupstream = \"{0}\"\n[route.credential]\n\
         source = \"claude-login\"\npath = \"login.json\"\ntoken-endpoint = \"{0}/token\"\n",
        upstream.url()
    );
    proxy::start_in(folder, &configuration, &[])
}

/// It is renewed before it ends: the agent never meets a 401.
fn a_token_that_ends_within_a_conversation_is_renewed() {
    let is_old_good = Arc::new(AtomicBool::new(true));
    let upstream = vendor(&is_old_good);
    let proxy = with_login(&upstream, 20);
    let mut conversation = Conversation::start(&proxy, "CLAUDE_CODE_OAUTH_TOKEN");
    conversation.say_well("say-apple", "say-apple");
    proxy.program.wait_for_err("the renewal", |err| {
        err.contains("the credential has changed").then_some(())
    });
    is_old_good.store(false, Ordering::SeqCst);
    conversation.say_well("say-banana", "say-banana");
    assert_renewed(&proxy, &upstream);
    let log = proxy.program.err();
    assert!(!log.contains("status=401"), "{log}");
}

/// It is revoked at the vendor: the agent's own retry meets the new one.
fn a_token_that_is_refused_within_a_conversation_is_renewed() {
    let is_old_good = Arc::new(AtomicBool::new(true));
    let upstream = vendor(&is_old_good);
    let proxy = with_login(&upstream, 24 * 3600);
    let mut conversation = Conversation::start(&proxy, "CLAUDE_CODE_OAUTH_TOKEN");
    conversation.say_well("say-apple", "say-apple");
    is_old_good.store(false, Ordering::SeqCst);
    conversation.say_well("say-banana", "say-banana");
    assert_renewed(&proxy, &upstream);
}

fn assert_renewed(proxy: &ProxyProgram, upstream: &Upstream) {
    let login = fs::read_to_string(proxy.path("login.json")).unwrap();
    let login: Value = serde_json::from_str(&login).unwrap();
    let oauth = &login["claudeAiOauth"];
    assert_eq!(
        (&oauth["accessToken"], &oauth["subscriptionType"]),
        (&RENEWED.into(), &"max".into())
    );
    let requests = upstream.requests();
    let asked = requests.iter().filter(|r| r.path() == "/token").count();
    assert_eq!(asked, 1, "a refresh token is used once");
}

fn each_failure_is_told_and_the_next_turn_works() {
    let has_failed = AtomicBool::new(false);
    let upstream = Model::start(move |turn| {
        let once = |failure: Answer| match has_failed.swap(true, Ordering::SeqCst) {
            true => Answer::Text("recovered".into()),
            false => failure,
        };
        match last_word(&turn.history()) {
            "fail-401" => refusal(401, "authentication_error"),
            "fail-403" => refusal(403, "permission_error"),
            "fail-429" => refusal(429, "rate_limit_error"),
            "fail-529" => refusal(529, "overloaded_error"),
            "now-hang" => once(Answer::Silence),
            "now-drop" => once(Answer::Stream(vec![
                Piece::Text("half".into()),
                Piece::Drop,
            ])),
            well => {
                has_failed.store(false, Ordering::SeqCst);
                Answer::Text(well.to_owned())
            }
        }
    });
    let configuration = format!(
        "[proxy.deadlines]\nfirst-byte = \"2s\"\n[[route]]\npreset = \"anthropic\"\nupstream = \"{}\"\n",
        upstream.url()
    );
    let key = [("ANTHROPIC_API_KEY", drawbridge_testkit::FAKE_KEY)];
    let proxy = proxy::start(&configuration, &key);
    let mut conversation = Conversation::start(&proxy, "ANTHROPIC_API_KEY");
    for status in ["401", "403", "429", "529"] {
        let result = conversation.say(&format!("fail-{status}"));
        assert_eq!(result["is_error"], true, "{result}");
        let told = result["result"].as_str().unwrap();
        assert!(
            told.contains(status) || told.contains("Rate") || told.contains("Overloaded"),
            "{told}"
        );
        conversation.say_well("say-apple", "say-apple");
    }
    for failure in ["now-hang", "now-drop"] {
        conversation.say_well(failure, "recovered");
        conversation.say_well("say-banana", "say-banana");
    }
    let log = proxy.program.err();
    assert!(log.contains("upstream did not answer in time"), "{log}");
    assert!(log.contains("upstream broke off"), "{log}");
}

const fn refusal(status: u16, kind: &'static str) -> Answer {
    Answer::Error { status, kind }
}

/// The word of the test that was said last.
fn last_word(history: &str) -> &'static str {
    let words = [
        "say-apple",
        "say-banana",
        "now-hang",
        "now-drop",
        "fail-401",
        "fail-403",
        "fail-429",
        "fail-529",
    ];
    let last = words.into_iter().max_by_key(|word| history.rfind(word));
    last.unwrap_or_default()
}
