//! The vendors' SDKs and curl, with a session token in the place of a key.

use std::path::{Path, PathBuf};
use std::process::Command;

use drawbridge_testkit::requirement;
use drawbridge_testkit::{
    Answer, Exchange, FAKE_KEY, Model, Program, ProxyProgram, Request, Upstream,
};
use serde_json::{Value, json};

use crate::Test;
use crate::proxy;

pub(crate) const TESTS: &[Test] = &[
    ("python_sdks_get_answers", python_sdks_get_answers),
    ("node_sdks_get_answers", node_sdks_get_answers),
    ("curl_gets_answers", curl_gets_answers),
];

const OPENAI_KEY: &str = "sk-fake-CANARY-openai-0123456789";

/// What both programs print.
const EXPECTED: &str = "anthropic plain: pear\nanthropic streamed: pear\n\
    openai plain: pear\nopenai streamed: pear\nopenai response: pear\n\
    anthropic refused: 401\nopenai refused: 401\n";

/// Where `tests/run.sh` has put them.
fn folder() -> Result<PathBuf, String> {
    let folder = std::env::var_os("DRAWBRIDGE_TESTS_SDKS").map(PathBuf::from);
    folder.ok_or_else(|| "DRAWBRIDGE_TESTS_SDKS does not say where the SDKs are".to_owned())
}

pub(crate) fn availability() -> Result<(), String> {
    requirement::program("node")?;
    requirement::program("curl")?;
    let python = folder()?.join("python/bin/python3");
    python
        .exists()
        .then_some(())
        .ok_or_else(|| format!("{} is missing", python.display()))
}

fn python_sdks_get_answers() {
    let python = folder().unwrap().join("python/bin/python3");
    run_client(Command::new(python).arg(client("client.py")));
}

/// Node looks for packages beside the program.
fn node_sdks_get_answers() {
    let program = folder().unwrap().join("node/client.mjs");
    std::fs::copy(client("client.mjs"), &program).unwrap();
    run_client(Command::new("node").arg(program));
}

fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("sdks")
        .join(name)
}

fn run_client(command: &mut Command) {
    let vendors = Vendors::start();
    command
        .arg(format!("http://{}", vendors.proxy.address))
        .arg(vendors.proxy.token())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let ended = Program::run(command);
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, EXPECTED),
        "{}",
        ended.err
    );
    vendors.assert_served(2, 3);
}

fn curl_gets_answers() {
    let vendors = Vendors::start();
    let (address, token) = (vendors.proxy.address, vendors.proxy.token());
    let ask = |path: &str, header: &str, body: &Value| {
        let mut command = Command::new("curl");
        command
            .args([
                "--silent",
                "--show-error",
                "--fail-with-body",
                "--no-buffer",
            ])
            .args(["--header", header, "--json", &body.to_string()])
            .arg(format!("http://{address}{path}"));
        let ended = Program::run(&mut command);
        assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
        ended.out
    };
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "apple" }] });
    let (key, bearer) = (
        format!("x-api-key: {token}"),
        format!("authorization: Bearer {token}"),
    );
    assert!(ask("/v1/messages", &key, &body).contains("pear"));
    assert!(ask("/openai/v1/chat/completions", &bearer, &body).contains("pear"));
    body["stream"] = true.into();
    assert!(ask("/v1/messages", &key, &body).contains("event: message_stop"));
    assert!(ask("/openai/v1/chat/completions", &bearer, &body).contains("data: [DONE]"));
    vendors.assert_served(2, 2);
}

/// Both APIs, and the proxy before them.
struct Vendors {
    anthropic: Upstream,
    openai: Upstream,
    proxy: ProxyProgram,
}

impl Vendors {
    fn start() -> Self {
        let anthropic = Model::start(|_| Answer::Text("pear".into()));
        let openai = Upstream::start(answer_as_openai);
        let configuration = format!(
            "[[route]]\npreset = \"anthropic\"\nupstream = \"{}\"\n\
             [[route]]\npreset = \"openai\"\nupstream = \"{}\"\n",
            anthropic.url(),
            openai.url()
        );
        let keys = [
            ("ANTHROPIC_API_KEY", FAKE_KEY),
            ("OPENAI_API_KEY", OPENAI_KEY),
        ];
        let proxy = proxy::start(&configuration, &keys);
        Self {
            anthropic,
            openai,
            proxy,
        }
    }

    /// Fails unless each API got so many requests, each with its own key.
    fn assert_served(&self, anthropic: usize, openai: usize) {
        let requests = self.anthropic.requests();
        assert_eq!(requests.len(), anthropic);
        for request in requests {
            assert_eq!(request.all("x-api-key"), [FAKE_KEY]);
            assert!(!request.text().contains("dbs_"));
        }
        let requests = self.openai.requests();
        assert_eq!(requests.len(), openai);
        for request in requests {
            assert_eq!(
                request.all("authorization"),
                [format!("Bearer {OPENAI_KEY}")]
            );
            assert!(!request.text().contains("dbs_"));
        }
    }
}

fn answer_as_openai(request: &Request, exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    let usage = json!({ "prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4 });
    match (request.path(), request.json()["stream"] == true) {
        ("/v1/chat/completions", false) => exchange.respond_json(
            200,
            &json!({
                "id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
                "choices": [{
                    "index": 0, "finish_reason": "stop",
                    "message": { "role": "assistant", "content": "pear" },
                }],
            }),
        ),
        ("/v1/chat/completions", true) => {
            exchange.begin(200, &[("content-type", "text/event-stream")])?;
            for (text, end) in [("pe", Value::Null), ("ar", "stop".into())] {
                let chunk = json!({
                    "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                    "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": end }],
                });
                exchange.chunk(format!("data: {chunk}\n\n"))?;
            }
            exchange.chunk("data: [DONE]\n\n")?;
            exchange.end()
        }
        ("/v1/responses", _) => exchange.respond_json(
            200,
            &json!({
                "id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed",
                "output": [{
                    "type": "message", "id": "o", "role": "assistant", "status": "completed",
                    "content": [{ "type": "output_text", "text": "pear", "annotations": [] }],
                }],
                "parallel_tool_calls": false, "tool_choice": "auto", "tools": [],
                "usage": {
                    "input_tokens": 3, "input_tokens_details": { "cached_tokens": 0 },
                    "output_tokens": 1, "output_tokens_details": { "reasoning_tokens": 0 },
                    "total_tokens": 4,
                },
            }),
        ),
        _ => exchange.respond_json(404, &json!({ "error": { "message": "no such path" } })),
    }
}
