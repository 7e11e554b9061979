//! A subscription login of Codex: its upstream has other paths than the API.

use drawbridge_testkit::{Credential, Launcher, Upstream};
use serde_json::json;

/// Stands in for Codex: at its first word it sends one request, to the base URL
/// that the runner gives it, and fails with the answer's first line.
const CODEX: &str = r#"
    read -r hello
    rest=${OPENAI_BASE_URL#http://}
    authority=${rest%%/*}
    exec 3<>"/dev/tcp/${authority%:*}/${authority##*:}"
    printf 'POST /%s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\ncontent-length: 2\r\n\r\n{}' \
        "${rest#*/}/$1" "$OPENAI_API_KEY" >&3
    read -r status <&3
    echo "$status" >&2
    exit 3
"#;

#[test]
fn the_documented_route_serves_what_the_runner_tells_codex() {
    let upstream = Upstream::start(|_, exchange| exchange.respond_json(200, &json!({})));
    let launcher = Launcher::new(Credential::Openai, &upstream);
    let (token, account) = launcher.log_in_to_codex();
    let run = |path: &str| {
        let start = ["run", "--runtime", "host", "--agent", "codex"];
        let agent = ["--prompt", "x", "--", "bash", "-c", CODEX, "codex", path];
        // The runner's own arguments for Codex follow.
        launcher.run(&[&start[..], &agent].concat())
    };
    let ended = run("responses");
    assert!(ended.err.contains("HTTP/1.1 200"), "{}", ended.err);
    let seen = upstream.requests();
    let [request] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!(request.target, "/backend-api/codex/responses");
    assert_eq!(request.all("authorization"), [format!("Bearer {token}")]);
    assert_eq!(request.all("chatgpt-account-id"), [account]);
    let ended = run("files");
    assert!(ended.err.contains("HTTP/1.1 403"), "{}", ended.err);
    assert_eq!(upstream.requests().len(), 1);
}
