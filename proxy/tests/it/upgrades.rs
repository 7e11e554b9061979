//! Connections that change their protocol, such as WebSockets.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{KEY, Proxy, Upstream, config};

fn upgrade(proxy: &Proxy, more: &str) -> String {
    let token = proxy.session.token();
    format!(
        "GET /v1/models HTTP/1.1\r\nHost: x\r\nx-api-key: {token}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Key: abc\r\n{more}\r\n"
    )
}

/// Grants every upgrade, then echoes what it gets, with the key in front.
fn switching() -> Upstream {
    switching_then(|stream| {
        let mut buffer = [0; 5];
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(KEY.as_bytes()).unwrap();
            stream.write_all(&buffer).unwrap();
        }
    })
}

/// Grants every upgrade, then does this.
fn switching_then(script: impl Fn(&mut TcpStream) + Send + Clone + 'static) -> Upstream {
    Upstream::start(move |request, stream| {
        assert_eq!(request.get("connection"), Some("upgrade"));
        assert_eq!(request.get("x-api-key"), Some(KEY));
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: def\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        script(stream);
    })
}

#[test]
fn an_upgrade_is_relayed_after_the_upstreams_101() {
    let upstream = switching();
    let proxy = Proxy::start(config(&upstream.url()));
    let mut client = proxy.connect();
    let answer = client.send(upgrade(&proxy, "")).head();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.head.get("upgrade"), Some("websocket"));
    assert_eq!(answer.head.get("sec-websocket-accept"), Some("def"));
    for text in ["hello", "again"] {
        client.send(text);
        let mut echo = vec![0; KEY.len() + 5];
        client.reader.read_exact(&mut echo).unwrap();
        let expected = format!("{}{text}", "*".repeat(KEY.len()));
        assert_eq!(String::from_utf8(echo).unwrap(), expected);
    }
}

/// A message may end as a secret begins, and its reader waits for all of it.
#[test]
fn the_end_of_a_message_does_not_wait_for_the_next_one() {
    let upstream = switching_then(|stream| {
        stream.write_all(b"your key begins with sk-a").unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
        stream.write_all(b", no: ").unwrap();
        stream.write_all(&KEY.as_bytes()[..4]).unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
        stream.write_all(&KEY.as_bytes()[4..]).unwrap();
    });
    let proxy = Proxy::start(config(&upstream.url()));
    let mut client = proxy.connect();
    assert_eq!(client.send(upgrade(&proxy, "")).head().status, 101);
    for expected in ["your key begins with sk-a", ", no: sk-a"] {
        let mut message = vec![0; expected.len()];
        client.reader.read_exact(&mut message).unwrap();
        assert_eq!(String::from_utf8(message).unwrap(), expected);
        client.send("ok");
    }
    // What follows such a beginning is masked as ever.
    let mut rest = vec![0; KEY.len() - 4];
    client.reader.read_exact(&mut rest).unwrap();
    assert_eq!(rest, vec![b'*'; KEY.len() - 4]);
}

#[test]
fn class_03_revoking_a_session_ends_its_upgrades() {
    let upstream = switching();
    let proxy = Proxy::start(config(&upstream.url()));
    let mut client = proxy.connect();
    assert_eq!(client.send(upgrade(&proxy, "")).head().status, 101);
    assert!(proxy.handle.sessions().revoke(proxy.session.id()));
    client.send("hello");
    assert!(client.is_closed());
}

#[test]
fn class_18_an_upgrade_offers_no_compression() {
    let upstream = switching();
    let proxy = Proxy::start(config(&upstream.url()));
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let answer = proxy.connect().send(upgrade(&proxy, offer)).head();
    assert_eq!(answer.status, 101);
    assert_eq!(upstream.next().get("sec-websocket-extensions"), None);
}

/// Browsers' clients put the key among the subprotocols, having no other place.
#[test]
fn class_05_a_key_among_the_subprotocols_does_not_arrive() {
    let upstream = switching();
    let proxy = Proxy::start(config(&upstream.url()));
    let token = proxy.session.token();
    let offer = format!(
        "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.attacker\r\n\
         Sec-WebSocket-Protocol: openai-insecure-api-key.{token}, openai-beta.realtime-v1\r\n"
    );
    let answer = proxy.connect().send(upgrade(&proxy, &offer)).head();
    assert_eq!(answer.status, 101);
    let seen = upstream.next();
    let kept = seen.all("sec-websocket-protocol");
    assert_eq!(kept, ["realtime, openai-beta.realtime-v1"]);
    assert!(!format!("{seen:?}").contains("attacker"), "{seen:?}");
}

/// What is no upgrade needs none of them.
#[test]
fn class_05_subprotocols_without_an_upgrade_do_not_arrive() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let header = "host: proxy\r\nsec-websocket-protocol: openai-insecure-api-key.attacker";
    let request = proxy.post("{}").replace("host: proxy", header);
    assert_eq!(proxy.connect().send(request).answer().status, 200);
    assert_eq!(upstream.next().get("sec-websocket-protocol"), None);
}

/// Not even when the upstream grants the switch.
#[test]
fn class_09_bytes_before_the_101_reach_nobody() {
    let upstream = switching();
    let proxy = Proxy::start(config(&upstream.url()));
    let mut client = proxy.connect();
    let early = "GET /v1/files HTTP/1.1\r\nhost: x\r\n\r\n";
    let bytes = upgrade(&proxy, "") + early;
    let answer = client.send(bytes).answer();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("upgrade"), "{}", answer.text());
    assert!(client.is_closed());
}

#[test]
fn a_refused_upgrade_leaves_the_connection_usable() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let mut client = proxy.connect();
    assert_eq!(client.send(upgrade(&proxy, "")).answer().status, 200);
    assert_eq!(client.send(proxy.post("{}")).answer().status, 200);
}

#[test]
fn an_upgrade_that_was_not_asked_for_is_a_502() {
    let upstream = Upstream::start(|_, stream| {
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
    });
    let proxy = Proxy::start(config(&upstream.url()));
    assert_eq!(proxy.connect().send(proxy.post("{}")).answer().status, 502);
    assert_eq!(
        proxy.connect().send(upgrade(&proxy, "")).answer().status,
        502
    );
}

#[test]
fn an_offer_of_http2_by_upgrade_is_ignored() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let request = upgrade(&proxy, "").replace("websocket", "h2c");
    let mut client = proxy.connect();
    assert_eq!(client.send(request).answer().status, 200);
    assert_eq!(upstream.next().get("upgrade"), None);
}
