//! Budgets of tokens, which are charged at an answer's end.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use drawbridge_proxy::session::SessionGuard;

use crate::support::{Proxy, Upstream, config, spec};

/// An answer that cost 7 tokens of input and 5 of output.
fn tell_usage(stream: &mut TcpStream) {
    let body = "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7,\
        \"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\
        \"usage\":{\"output_tokens\":5}}\n\n";
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length";
    write!(stream, "{head}: {length}\r\n\r\n{body}").unwrap();
}

fn with_output_tokens(proxy: &Proxy, tokens: u64) -> SessionGuard {
    let mut budget = spec();
    budget.limits.output_tokens = Some(tokens);
    proxy.handle.sessions().issue(budget).unwrap()
}

fn post(session: &SessionGuard) -> String {
    let token = session.token();
    format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\ncontent-length: 0\r\n\r\n"
    )
}

#[test]
fn a_token_budget_that_is_used_up_is_a_429_without_retry() {
    let upstream = Upstream::start(|_, stream| tell_usage(stream));
    let proxy = Proxy::start(config(&upstream.url()));
    let session = with_output_tokens(&proxy, 6);
    let mut client = proxy.connect();
    for status in [200, 200, 429] {
        let answer = client.send(post(&session)).answer();
        assert_eq!(answer.status, status);
        let retry = (status == 429).then_some("false");
        assert_eq!(answer.head.get("x-should-retry"), retry);
    }
}

/// Requests that begin together must not each spend all that is left.
#[test]
fn requests_in_flight_reserve_what_they_may_cost() {
    let (go, gate) = channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let upstream = Upstream::start(move |_, stream| {
        let _ = gate.lock().unwrap().recv();
        tell_usage(stream);
    });
    let proxy = Proxy::start(config(&upstream.url()));
    // Two answers of the expected length.
    let session = with_output_tokens(&proxy, 64_000);
    let (mut one, mut two, mut three) = (proxy.connect(), proxy.connect(), proxy.connect());
    for client in [&mut one, &mut two] {
        client.send(post(&session));
        upstream.next();
    }
    let refused = three.send(post(&session)).answer();
    assert_eq!(
        (refused.status, refused.head.get("x-should-retry")),
        (429, None)
    );
    assert!(refused.text().contains("in flight"), "{}", refused.text());
    upstream.assert_unused();
    drop(go);
    assert_eq!((one.answer().status, two.answer().status), (200, 200));
    assert_eq!(three.send(post(&session)).answer().status, 200);
}

/// What is said over another protocol tells no cost.
#[test]
fn a_session_with_a_budget_gets_no_upgrade() {
    let upstream = Upstream::start(|request, stream| {
        assert_eq!(request.get("upgrade"), None);
        tell_usage(stream);
    });
    let proxy = Proxy::start(config(&upstream.url()));
    let session = with_output_tokens(&proxy, 1000);
    let request = format!(
        "GET /v1/models HTTP/1.1\r\nHost: x\r\nx-api-key: {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\n\r\n",
        session.token()
    );
    assert_eq!(proxy.connect().send(request).answer().status, 200);
}
