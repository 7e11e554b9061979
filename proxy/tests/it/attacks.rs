//! Attacks that use what the proxy is made for against it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::support::{KEY, Proxy, Upstream, block_on, config};

/// An agent's base URL may be bent by a repository's settings. What is stolen
/// then is a token that opens nothing but the proxy that issued it.
#[test]
fn class_04_a_token_is_worthless_anywhere_else() {
    let (upstream, elsewhere) = (Upstream::answering(), Upstream::answering());
    let proxy = Proxy::start(config(&upstream.url()));
    let other = Proxy::start(config(&elsewhere.url()));
    assert_eq!(proxy.connect().send(proxy.post("{}")).answer().status, 200);
    assert_eq!(other.connect().send(proxy.post("{}")).answer().status, 401);
    elsewhere.assert_unused();
    assert!(!proxy.post("{}").contains(KEY));
}

/// The status of an answer to a request over HTTP/2.
fn ask_http2(address: SocketAddr, request: http::request::Builder) -> u16 {
    let request = request.body(Full::new(Bytes::new())).unwrap();
    block_on(async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.unwrap();
        answer.status().as_u16()
    })
}

#[test]
fn class_06_over_http2_authority_and_host_must_agree() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    for (authority, host, status) in [
        ("proxy", None, 200),
        ("proxy", Some("proxy"), 200),
        ("proxy", Some("evil.example"), 421),
        ("evil.example", Some("proxy"), 421),
    ] {
        let mut request = Request::get(format!("http://{authority}/v1/models"))
            .header("x-api-key", proxy.session.token());
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let answered = ask_http2(proxy.address(), request);
        assert_eq!(answered, status, "{authority} {host:?}");
    }
    assert_eq!(upstream.seen.try_iter().count(), 2);
}

#[test]
fn class_14_connect_over_http2_is_refused() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("api.anthropic.com:443")
        .header("x-api-key", proxy.session.token());
    assert_eq!(ask_http2(proxy.address(), request), 400);
    upstream.assert_unused();
}

/// What a body holds stays what it is: the key comes into no prompt, and a
/// token or a placeholder in one does no harm.
#[test]
fn class_23_nothing_in_a_body_becomes_the_key() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let body = "placeholder ${ANTHROPIC_API_KEY} {{x-api-key}} $(cat key) %ANTHROPIC_API_KEY%";
    let request = proxy.post(body).replace(
        "host: proxy",
        "host: proxy\r\nx-note: placeholder ${ANTHROPIC_API_KEY}",
    );
    assert_eq!(proxy.connect().send(request).answer().status, 200);
    let seen = upstream.next();
    assert_eq!(seen.body, body.as_bytes());
    assert_eq!(seen.get("x-note"), Some("placeholder ${ANTHROPIC_API_KEY}"));
    let places = seen.headers.iter().filter(|(_, value)| value.contains(KEY));
    assert_eq!(places.count(), 1);
}

#[test]
fn class_24_a_token_in_a_body_does_no_harm() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let token = proxy.session.token();
    for body in [
        token.to_owned(),
        format!(r#"{{"text":"x-api-key: {token}"}}"#),
        token.replace("dbs_", "dbs_00"),
        "dbs_0000000000000000 revoked long ago".to_owned(),
    ] {
        let answer = proxy.connect().send(proxy.post(&body)).answer();
        assert_eq!(answer.status, 200, "{body}");
        assert_eq!(upstream.next().body, body.as_bytes());
    }
}
