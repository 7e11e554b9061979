//! Raw bytes that two parsers could read differently.

use std::io::Write;
use std::time::Duration;

use crate::support::{DEADLINE, Proxy, Upstream, config};

/// Sends bytes, and returns the statuses of all answers until the proxy closes
/// the connection, as it does after anything that it refuses.
fn statuses(proxy: &Proxy, bytes: &[u8]) -> Vec<u16> {
    let mut client = proxy.connect();
    let _ = client.reader.get_mut().write_all(bytes);
    let mut statuses = Vec::new();
    while !client.is_closed() {
        statuses.push(client.answer().status);
    }
    statuses
}

#[test]
fn class_09_ambiguous_messages_are_answered_400_and_not_forwarded() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {}\r\n",
        proxy.session.token()
    );
    for rest in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "Content-Length: 3, 3\r\n\r\nabc",
        "Content-Length: +3\r\n\r\nabc",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "X: a\r\n folded\r\n\r\n",
        "X: a\nContent-Length: 3\r\n\r\nabc",
        "X: a\rContent-Length: 3\r\n\r\nabc",
        "X\0: a\r\n\r\n",
        "Host: y\r\n\r\n",
    ] {
        let bytes = format!("{head}{rest}");
        assert_eq!(statuses(&proxy, bytes.as_bytes()), [400], "{rest:?}");
    }
    for line in [
        "GET /v1/models HTTP/1.1\n",
        "GET  /v1/models HTTP/1.1\r\n",
        "GET /v1/models\r\n",
    ] {
        let bytes = format!("{line}Host: x\r\n\r\n");
        assert_eq!(statuses(&proxy, bytes.as_bytes()), [400], "{line:?}");
    }
    upstream.assert_unused();
}

#[test]
fn class_09_what_hides_in_a_body_is_not_a_request() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let hidden = proxy.post("{}");
    assert_eq!(
        proxy.connect().send(proxy.post(&hidden)).answer().status,
        200
    );
    assert_eq!(upstream.next().body, hidden.as_bytes());
    upstream.assert_unused();
}

#[test]
fn class_09_a_bad_chunk_ends_the_request_and_the_connection() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        proxy.session.token()
    );
    for chunks in [
        "3;x=y\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
    ] {
        let smuggled = format!("{head}{chunks}GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
        let statuses = statuses(&proxy, smuggled.as_bytes());
        assert!(
            statuses == [400] || statuses.is_empty(),
            "{chunks:?}: {statuses:?}"
        );
        assert!(upstream.seen.try_iter().next().is_none(), "{chunks:?}");
    }
}

/// In the shape of the route's API, in its turn, and as the last answer.
#[test]
fn class_09_a_refused_head_is_told_why() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let mut client = proxy.connect();
    let bad = proxy.post("{}").replace(
        "content-length: 2",
        "Content-Length: 2\r\nContent-Length: 2",
    );
    client.send(format!("{}{bad}{}", proxy.post("{}"), proxy.post("{}")));
    assert_eq!(client.answer().status, 200);
    let answer = client.answer();
    let body: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!((answer.status, &body["type"]), (400, &"error".into()));
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("Content-Length is repeated"), "{message}");
    assert_eq!(answer.head.get("connection"), Some("close"));
    assert!(client.is_closed());
    assert_eq!(upstream.seen.try_iter().count(), 1);
}

/// The request that stands for a refused head inside the proxy is no way in.
#[test]
fn class_09_the_stand_in_for_a_refused_head_opens_nothing() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let token = proxy.session.token();
    for head in ["", "x-api-key: {token}\r\n"] {
        let head = head.replace("{token}", token);
        let bytes = format!("- / HTTP/1.1\r\nhost: -\r\n{head}\r\n");
        let status = proxy.connect().send(bytes).answer().status;
        assert!([401, 403].contains(&status), "{status}");
    }
    upstream.assert_unused();
}

#[test]
fn class_09_bytes_behind_a_request_for_an_upgrade_are_refused() {
    let upstream = Upstream::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
    let proxy = Proxy::start(config(&upstream.url()));
    let token = proxy.session.token();
    let bytes = format!(
        "GET /v1/models HTTP/1.1\r\nHost: x\r\nx-api-key: {token}\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: x\r\nx-api-key: {token}\r\n\r\n"
    );
    let statuses = statuses(&proxy, bytes.as_bytes());
    // The first may have been answered already; the second never is.
    assert!(statuses == [400] || statuses == [200, 400], "{statuses:?}");
    assert!(upstream.seen.try_iter().count() <= 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let bytes = [proxy.post("1"), proxy.post("22"), proxy.post("333")].concat();
    let mut client = proxy.connect();
    client.send(bytes);
    for body in ["1", "22", "333"] {
        assert_eq!(client.answer().status, 200);
        assert_eq!(upstream.next().body, body.as_bytes());
    }
}

#[test]
fn a_chunked_upload_arrives_whole_in_whatever_pieces() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        proxy.session.token()
    );
    let mut client = proxy.connect();
    for byte in format!("{head}5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n").bytes() {
        client.send([byte]);
    }
    assert_eq!(client.answer().status, 200);
    assert_eq!(upstream.next().body, b"hello!");
}

#[test]
fn expect_100_continue_is_answered_when_the_upstream_is_there() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let request = proxy
        .post("{}")
        .replace("host: proxy", "host: proxy\r\nexpect: 100-continue");
    let (head, body) = request.split_at(request.len() - 2);
    let mut client = proxy.connect();
    assert_eq!(client.send(head).head().status, 100);
    assert_eq!(client.send(body).answer().status, 200);
    let seen = upstream.next();
    assert_eq!(
        (seen.get("expect"), seen.body.as_slice()),
        (None, &b"{}"[..])
    );

    let refused = head.replace("dbs_", "dbx_");
    assert_eq!(proxy.connect().send(refused).head().status, 401);
}

#[test]
fn class_25_a_silent_connection_is_closed() {
    let upstream = Upstream::answering();
    let mut config = config(&upstream.url());
    config.deadlines.head = Duration::from_millis(50);
    config.deadlines.keep_alive = Duration::from_millis(50);
    let proxy = Proxy::start(config);
    let mut silent = proxy.connect();
    silent
        .reader
        .get_ref()
        .set_read_timeout(Some(DEADLINE))
        .unwrap();
    assert!(silent.is_closed());
    let mut idle = proxy.connect();
    assert_eq!(idle.send(proxy.post("{}")).answer().status, 200);
    assert!(idle.is_closed());
}
