//! What one client does or leaves undone does not hold up another.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use drawbridge_proxy::config::ProxyConfig;

use crate::protocols::{HASTY, TLS_STREAMS, tls_upstream};
use crate::support::{DEADLINE, KEY, Proxy, config, config_from};

/// An upstream that answers a head at once and then reads on. It tells of each
/// connection that has ended.
fn hasty() -> (String, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, ended) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                answer_heads(stream.unwrap());
                let _ = sender.send(());
            });
        }
    });
    (url, ended)
}

fn answer_heads(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        line.clear();
    }
    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno");
    let _ = reader.read_to_end(&mut Vec::new());
}

#[test]
fn class_25_an_upload_that_outlives_its_answer_holds_up_nobody() {
    let (url, ended) = hasty();
    let proxy = Proxy::start(config(&url));
    let mut slow = proxy.connect();
    let whole = proxy.post("a body of which only a part is sent");
    let answer = slow.send(&whole[..whole.len() - 10]).answer();
    assert_eq!((answer.status, answer.text().as_str()), (400, "no"));
    // Its connection is of no use to anybody else.
    assert_eq!(proxy.connect().send(proxy.post("b")).answer().status, 400);
    ended
        .recv_timeout(DEADLINE)
        .expect("the upload is given up");
}

/// Over HTTP/2 it would keep one of the few streams that an upstream grants.
#[test]
fn class_25_an_upload_that_outlives_its_answer_keeps_no_stream() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let proxy = Proxy::start(over_http2(&runtime, folder.path()));
    let whole = proxy
        .post("a body of which only a part is sent")
        .replace("host: proxy", &format!("host: proxy\r\n{HASTY}: 1"));
    let slow: Vec<_> = (0..2 * TLS_STREAMS)
        .map(|_| {
            let mut slow = proxy.connect();
            slow.send(&whole[..whole.len() - 10]);
            assert_eq!(slow.answer().status, 200);
            slow
        })
        .collect();
    assert_eq!(proxy.connect().send(proxy.post("{}")).answer().status, 200);
    drop(slow);
}

/// A proxy whose upstream speaks HTTP/2.
fn over_http2(runtime: &tokio::runtime::Runtime, folder: &Path) -> ProxyConfig {
    let (port, root) = runtime.block_on(tls_upstream(&["h2"], folder));
    let url = format!("https://localhost:{port}");
    let mut config = config_from(&[("ANTHROPIC_API_KEY", KEY), ("ANTHROPIC_BASE_URL", &url)]);
    config.extra_roots = vec![root];
    config
}

/// HTTP/2 streams share one window, and what is not read uses it up.
#[test]
fn class_25_answers_that_nobody_reads_hold_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let proxy = Proxy::start(over_http2(&runtime, folder.path()));
    let path = folder.path().join("proxy.sock");
    let _listener = proxy.handle.listen_unix(&path).unwrap();
    let large = proxy.post(&"x".repeat(2000));
    let unread: Vec<_> = (0..8)
        .map(|_| {
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(large.as_bytes()).unwrap();
            client.read_exact(&mut [0; 12]).unwrap();
            client
        })
        .collect();
    let mut client = proxy.connect();
    for _ in 0..100 {
        assert_eq!(client.send(proxy.post("{}")).answer().status, 200);
    }
    drop(unread);
}
