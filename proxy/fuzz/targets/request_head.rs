//! Raw bytes of a client, through the server's parser and the proxy's checks.
//!
//! Whatever is accepted has one reading, and carries no credential and no
//! header of its own hop once it is stripped.

#![no_main]

use std::convert::Infallible;

use bytes::Bytes;
use drawbridge_proxy::testing;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncWriteExt as _;

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let sent = &bytes[..bytes.len().min(60 * 1024)];
        client.write_all(sent).await.unwrap();
        client.shutdown().await.unwrap();
        let service = service_fn(async |request: Request<Incoming>| {
            check(request);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        // An error is an answer too.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(server), service).await;
    });
});

fn check(request: Request<Incoming>) {
    let (mut head, _) = request.into_parts();
    for credential in testing::presented_credentials(&head.headers, head.uri.query()) {
        assert!(!credential.contains(&b'\n'));
    }
    if !testing::accepts_target(&head.uri) {
        return;
    }
    let path = head.uri.path();
    assert!(path.starts_with('/'));
    let once = decode(path.as_bytes());
    assert_eq!(once, decode(&once), "{path} means something else when it is decoded twice");
    let separators = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'/').count();
    assert_eq!(separators(&once), separators(path.as_bytes()), "{path} hides a separator");
    for segment in once.split(|byte| *byte == b'/') {
        assert!(segment != b"." && segment != b"..", "{path} has a dot segment");
    }
    assert!(!path.contains("//"));
    assert!(!once.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\' || *byte == b';'));

    testing::strip_request(&mut head.headers);
    for name in [
        "authorization", "cookie", "x-api-key", "x-goog-api-key", "proxy-authorization",
        "connection", "keep-alive", "te", "transfer-encoding", "upgrade", "host",
    ] {
        assert!(!head.headers.contains_key(name), "{name} is still there");
    }
}

fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = bytes;
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) if byte == b'%' => {
                decoded.push(value);
                rest = &behind[2..];
            }
            _ => {
                decoded.push(byte);
                rest = behind;
            }
        }
    }
    decoded
}
