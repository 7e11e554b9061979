use std::collections::HashMap;

use tokio::sync::mpsc;

use super::*;
use crate::agent::builtin::tests::stand_in::{Answer, StandIn};
use crate::agent::builtin::tests::{DEADLINE, spec};

const SHORT: Duration = Duration::from_millis(150);

/// Calls the stand-in with deadlines that a test can wait for.
async fn call(api: &StandIn) -> Result<Reply, Failure> {
    let home = tempfile::tempdir().unwrap();
    let mut client = Client::new(&spec(home.path(), api.base_url()))?;
    client.deadlines = Deadlines {
        connect: SHORT,
        head: SHORT,
        idle: SHORT,
        back_off: Duration::from_millis(1),
    };
    let (events, _kept) = mpsc::channel(100);
    let events = Events(events);
    let call = client.call(client.request(&[]), &events);
    timeout(DEADLINE, call).await.unwrap()
}

async fn failure(answers: impl IntoIterator<Item = Answer>) -> (ErrorKind, String, usize) {
    let api = StandIn::start(answers).await;
    let failure = call(&api).await.unwrap_err();
    (failure.kind, failure.message, api.requests().len())
}

fn error(status: u16, headers: &str, kind: &str, message: &str) -> Answer {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}});
    Answer::status(status, headers, &body.to_string())
}

#[tokio::test]
async fn what_cannot_be_helped_is_asked_once() {
    let cases = [
        (
            error(401, "", "authentication_error", "bad key"),
            ErrorKind::Auth,
        ),
        (error(403, "", "permission_error", "no"), ErrorKind::Auth),
        (
            error(
                400,
                "",
                "invalid_request_error",
                "prompt is too long: 9 > 8",
            ),
            ErrorKind::Context,
        ),
        (
            error(
                400,
                "",
                "invalid_request_error",
                "Your credit balance is too low",
            ),
            ErrorKind::Budget,
        ),
        (error(404, "", "not_found_error", "model"), ErrorKind::Api),
        (
            error(503, "x-should-retry: false\r\n", "api_error", "no key"),
            ErrorKind::Overload,
        ),
        (
            error(429, "retry-after: 3600\r\n", "rate_limit_error", "later"),
            ErrorKind::RateLimit,
        ),
    ];
    for (answer, kind) in cases {
        let (found, message, requests) = failure([answer]).await;
        assert_eq!((found, requests), (kind, 1), "{message}");
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let cases = [
        error(429, "retry-after: 0\r\n", "rate_limit_error", "later"),
        error(529, "", "overloaded_error", "busy"),
        error(500, "", "api_error", "oops"),
        error(
            400,
            "x-should-retry: true\r\n",
            "invalid_request_error",
            "odd",
        ),
        Answer::text("a dropped stream").cut(false),
        Answer::text("a stalled stream").cut(true),
        Answer::silence(),
    ];
    for answer in cases {
        let api = StandIn::start([answer, Answer::text("well")]).await;
        assert_eq!(call(&api).await.unwrap().text().as_deref(), Some("well"));
        assert_eq!(api.requests().len(), 2);
    }
}

#[tokio::test]
async fn it_gives_up_after_the_last_attempt_and_says_why() {
    let busy = || error(529, "", "overloaded_error", "busy");
    let (kind, message, requests) = failure((0..9).map(|_| busy())).await;
    assert_eq!((kind, requests), (ErrorKind::Overload, 5));
    assert_eq!(
        message,
        "the model API answered 529: busy (after 5 attempts)"
    );

    let (kind, message, _) = failure((0..9).map(|_| Answer::silence())).await;
    assert_eq!(kind, ErrorKind::Timeout);
    assert_eq!(
        message,
        "the model did not answer within 150ms (after 5 attempts)"
    );

    let (kind, message, _) = failure((0..9).map(|_| Answer::text("x").cut(false))).await;
    assert_eq!(kind, ErrorKind::Api);
    assert!(
        message.starts_with("the connection to the model broke: "),
        "{message}"
    );
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named_as_the_cause() {
    let api = StandIn::start([]).await;
    let home = tempfile::tempdir().unwrap();
    let mut client = Client::new(&spec(home.path(), api.base_url())).unwrap();
    client.deadlines.back_off = Duration::from_millis(1);
    drop(api);
    let (events, _kept) = mpsc::channel(100);
    // The stand-in's task ends a moment after its handle.
    let failure = client
        .call(client.request(&[]), &Events(events))
        .await
        .unwrap_err();
    assert!(
        failure.message.contains("(after 5 attempts)"),
        "{}",
        failure.message
    );
}

#[test]
fn the_session_token_is_sent_as_the_mode_demands() {
    let access = |auth_mode| ModelAccess {
        base_url: String::new(),
        token: "token".to_owned(),
        auth_mode,
    };
    let (name, value) = credential(&access(AuthMode::ApiKey)).unwrap();
    assert_eq!(
        (name.as_str(), value.to_str().unwrap()),
        ("x-api-key", "token")
    );
    assert!(value.is_sensitive());
    let (name, value) = credential(&access(AuthMode::Oauth)).unwrap();
    assert_eq!(
        (name.as_str(), value.to_str().unwrap()),
        ("authorization", "Bearer token")
    );
}

#[test]
fn without_run_options_the_environment_says_where_and_as_whom() {
    let access = |variables: &[(&str, &str)]| {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        access_from(|name| variables.get(name).map(ToString::to_string))
    };
    let url = ("ANTHROPIC_BASE_URL", "http://host.docker.internal:3001");
    let key = access(&[url, ("ANTHROPIC_API_KEY", "placeholder")]).unwrap();
    assert_eq!(key.auth_mode, AuthMode::ApiKey);
    let bearer = access(&[
        url,
        ("ANTHROPIC_API_KEY", ""),
        ("CLAUDE_CODE_OAUTH_TOKEN", "p"),
    ]);
    assert_eq!(bearer.unwrap().auth_mode, AuthMode::Oauth);
    let none = access(&[url]).unwrap_err();
    assert_eq!(
        none.message,
        "ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN is not set"
    );
    let nowhere = access(&[("ANTHROPIC_API_KEY", "placeholder")]).unwrap_err();
    assert_eq!(nowhere.message, "ANTHROPIC_BASE_URL is not set");
}

#[test]
fn the_base_url_keeps_its_path_and_must_be_the_proxys() {
    let parsed = parse_base_url("http://127.0.0.1:3001/prefix/").unwrap();
    assert_eq!(parsed, ("127.0.0.1:3001".to_owned(), "/prefix".to_owned()));
    assert_eq!(parse_base_url("http://[::1]").unwrap().0, "[::1]:80");
    insta::assert_snapshot!(
        parse_base_url("https://api.example").unwrap_err().message,
        @r#"base URL "https://api.example" cannot be used by the builtin agent: it must be the credential proxy's, which is plain http"#
    );
}

#[test]
fn speakers_take_turns_on_the_wire() {
    let text = |text: &str| vec![json!({"type": "text", "text": text})];
    let wire = wire_messages(&[
        Message::user(text("a")),
        Message::user(text("b")),
        Message::assistant(Vec::new()),
        Message::user(text("c")),
    ]);
    assert_eq!(wire.len(), 1);
    assert_eq!(wire[0]["content"].as_array().unwrap().len(), 3);
    assert_eq!(wire[0]["content"][2]["cache_control"]["type"], "ephemeral");
    assert_eq!(wire[0]["content"][1].get("cache_control"), None);
}
