//! Bodies that take their time: streams, aborts, deadlines and shutdown.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::support::{DEADLINE, Proxy, Upstream, block_on, config};
use drawbridge_proxy::DrainOutcome;

#[test]
fn event_streams_pass_chunk_by_chunk() {
    let (go, gate) = channel::<()>();
    let gate = std::sync::Arc::new(std::sync::Mutex::new(gate));
    let upstream = Upstream::start(move |_, stream| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
            transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
        stream.write_all(head).unwrap();
        gate.lock().unwrap().recv().unwrap();
        stream.write_all(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n").unwrap();
    });
    let proxy = Proxy::start(config(&upstream.url()));
    let mut client = proxy.connect();
    assert_eq!(client.send(proxy.post("{}")).head().status, 200);
    let mut first = [0; 14];
    client.reader.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"9\r\ndata: 1\n\n\r\n");
    go.send(()).unwrap();
    let mut rest = [0; 19];
    client.reader.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"9\r\ndata: 2\n\n\r\n0\r\n\r\n");
}

#[test]
fn uploads_pass_chunk_by_chunk() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", upstream.local_addr().unwrap());
    let (sender, pieces) = channel();
    std::thread::spawn(move || {
        let mut stream = upstream.accept().unwrap().0;
        let mut seen = Vec::new();
        let mut byte = [0];
        for piece in [&b"\r\n\r\n"[..], b"first", b"second"] {
            while !seen.ends_with(piece) {
                stream.read_exact(&mut byte).unwrap();
                seen.extend(byte);
            }
            sender.send(()).unwrap();
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .unwrap();
    });
    let proxy = Proxy::start(config(&url));
    let mut client = proxy.connect();
    let whole = proxy.post("first, and then the second");
    let (first, rest) = whole.split_once(", and").unwrap();
    client.send(first);
    for _ in ["head", "first"] {
        pieces.recv_timeout(DEADLINE).unwrap();
    }
    assert_eq!(client.send(format!(", and{rest}")).answer().status, 200);
}

#[test]
fn class_03_revoking_a_session_ends_its_answers() {
    let (go, gate) = channel::<()>();
    let gate = std::sync::Arc::new(std::sync::Mutex::new(gate));
    let upstream = Upstream::start(move |_, stream| {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
        stream.write_all(head).unwrap();
        gate.lock().unwrap().recv().unwrap();
        let _ = stream.write_all(b"1\r\nb\r\n0\r\n\r\n");
    });
    let proxy = Proxy::start(config(&upstream.url()));
    let mut client = proxy.connect();
    client.send(proxy.post("{}")).head();
    proxy.handle.sessions().revoke(proxy.session.id());
    go.send(()).unwrap();
    let rest = client.rest();
    assert_eq!(rest, b"1\r\na\r\n");
}

#[test]
fn class_05_a_credential_in_a_trailer_does_not_arrive() {
    let upstream = Upstream::answering();
    let proxy = Proxy::start(config(&upstream.url()));
    let request = proxy.post("").replace(
        "content-length: 0",
        "trailer: x-sum, authorization\r\ntransfer-encoding: chunked",
    ) + "1\r\nx\r\n0\r\nx-sum: 7\r\nauthorization: Bearer attacker\r\n\r\n";
    assert_eq!(proxy.connect().send(request).answer().status, 200);
    let seen = upstream.next();
    assert!(
        !format!("{:?}", seen.trailers).contains("attacker"),
        "{:?}",
        seen.trailers
    );
    assert_eq!(seen.trailers, [("x-sum".to_owned(), "7".to_owned())]);
}

#[test]
fn a_client_that_leaves_ends_the_upstream_exchange() {
    // Before the head of the answer, and in the middle of its body.
    for starts_to_answer in [false, true] {
        let (ended, end) = channel();
        let upstream = Upstream::start(move |_, stream| {
            if starts_to_answer {
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx";
                stream.write_all(head).unwrap();
            }
            let mut byte = [0];
            let _ = ended.send(stream.read(&mut byte).is_ok_and(|read| read > 0));
        });
        let proxy = Proxy::start(config(&upstream.url()));
        let mut client = proxy.connect();
        client.send(proxy.post("{}"));
        upstream.next();
        if starts_to_answer {
            client.head();
        }
        drop(client);
        assert!(
            !end.recv_timeout(DEADLINE).unwrap(),
            "the upstream connection is closed"
        );
    }
}

#[test]
fn an_upstream_that_leaves_ends_the_clients_answer() {
    // The end comes right behind the last data, before which nothing is to be
    // lost, or in the middle of a chunk.
    for last in ["4\r\nlast\r\n", "ff\r\nlast"] {
        let upstream = Upstream::start(move |_, stream| {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
            stream.write_all(head).unwrap();
            stream.write_all(last.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        });
        let proxy = Proxy::start(config(&upstream.url()));
        let mut client = proxy.connect();
        client.send(proxy.post("{}")).head();
        let rest = String::from_utf8(client.rest()).unwrap();
        assert!(rest.contains("first") && rest.contains("last"), "{rest:?}");
        assert!(
            !rest.ends_with("0\r\n\r\n"),
            "the answer must not look complete"
        );
        // And the next request works.
        let upstream_again = proxy.connect().send(proxy.post("{}")).head();
        assert_eq!(upstream_again.status, 200);
    }
}

/// Clients that write all before they read are many.
#[test]
fn an_upload_goes_on_while_nobody_reads_the_answer() {
    const BODY: usize = 32 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (received, all) = channel();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while (&mut reader)
            .lines()
            .next()
            .is_some_and(|line| !line.unwrap().is_empty())
        {}
        std::thread::spawn(move || {
            let mut stream = stream;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&vec![b'a'; BODY]).unwrap();
        });
        let mut body = vec![0; BODY];
        received.send(reader.read_exact(&mut body).is_ok()).unwrap();
    });
    let proxy = Proxy::start(config(&format!("http://{address}")));
    let mut client = proxy.connect();
    let stream = client.reader.get_mut();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    client.send(proxy.post(&"u".repeat(BODY)));
    assert!(all.recv_timeout(DEADLINE).unwrap());
    assert_eq!(client.answer().head.body.len(), BODY);
}

#[test]
fn an_upstream_that_drops_the_request_is_a_502() {
    let upstream = Upstream::start(|_, stream| stream.shutdown(std::net::Shutdown::Both).unwrap());
    let proxy = Proxy::start(config(&upstream.url()));
    let answer = proxy.connect().send(proxy.post("{}")).answer();
    assert_eq!(
        (answer.status, answer.head.get("x-should-retry")),
        (502, None)
    );
    assert_eq!(
        upstream.seen.try_iter().count(),
        1,
        "a sent request is not sent twice"
    );
}

#[test]
fn an_unreachable_upstream_is_a_502() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let proxy = Proxy::start(config(&format!("http://{address}")));
    let answer = proxy.connect().send(proxy.post("{}")).answer();
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains(r#""type":"error""#));
}

#[test]
fn a_silent_upstream_is_a_504_and_the_next_request_works() {
    let upstream = Upstream::start(|request, stream| {
        if request.body == b"answer" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let mut config = config(&upstream.url());
    config.deadlines.first_byte = Duration::from_millis(100);
    let proxy = Proxy::start(config);
    let mut client = proxy.connect();
    assert_eq!(client.send(proxy.post("{}")).answer().status, 504);
    assert_eq!(client.send(proxy.post("answer")).answer().status, 200);
}

#[test]
fn silence_within_an_answer_ends_it() {
    let upstream = Upstream::start(|_, stream| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx";
        stream.write_all(head).unwrap();
    });
    let mut config = config(&upstream.url());
    config.deadlines.idle = Duration::from_millis(100);
    let proxy = Proxy::start(config);
    let mut client = proxy.connect();
    client.send(proxy.post("{}")).head();
    let rest = client.rest();
    assert_eq!(rest, b"x");
}

#[test]
fn a_client_that_stops_sending_is_a_408() {
    let upstream = Upstream::answering();
    let mut config = config(&upstream.url());
    config.deadlines.idle = Duration::from_millis(100);
    let proxy = Proxy::start(config);
    let request = proxy
        .post("{}")
        .replace("content-length: 2", "content-length: 3");
    assert_eq!(proxy.connect().send(request).answer().status, 408);
}

#[test]
fn class_25_a_head_that_never_ends_is_cut() {
    let upstream = Upstream::answering();
    let mut config = config(&upstream.url());
    config.deadlines.head = Duration::from_millis(100);
    let proxy = Proxy::start(config);
    let mut client = proxy.connect();
    client.send("GET /v1/models HTTP/1.1\r\nhost: x\r\n");
    client.rest();
    upstream.assert_unused();
}

#[test]
fn connections_are_reused_and_dead_ones_replaced() {
    // This upstream closes each connection after its second answer.
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let upstream = Upstream::start(move |_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 2 == 1 {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    });
    let proxy = Proxy::start(config(&upstream.url()));
    let mut client = proxy.connect();
    for _ in 0..20 {
        assert_eq!(client.send(proxy.post("{}")).answer().status, 200);
        upstream.next();
        // A close that is still on its way may reach the proxy after the next
        // request; here it has to have arrived.
        wait_a_turn();
    }
}

fn wait_a_turn() {
    let (_never, gate) = channel::<()>();
    let _ = gate.recv_timeout(Duration::from_millis(5));
}

#[test]
fn large_bodies_pass_both_ways() {
    let upstream = Upstream::start(|request, stream| {
        let length = request.body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"
        )
        .unwrap();
        stream.write_all(&request.body).unwrap();
    });
    let proxy = Proxy::start(config(&upstream.url()));
    let body = "0123456789abcdef".repeat(512 * 1024);
    let answer = proxy.connect().send(proxy.post(&body)).answer();
    assert!(answer.head.body == body.as_bytes());
}

#[test]
fn shutdown_finishes_what_is_in_flight() {
    let (go, gate) = channel::<()>();
    let gate = std::sync::Arc::new(std::sync::Mutex::new(gate));
    let upstream = Upstream::start(move |_, stream| {
        gate.lock().unwrap().recv().unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .unwrap();
    });
    let proxy = Proxy::start(config(&upstream.url()));
    let (mut client, mut idle) = (proxy.connect(), proxy.connect());
    client.send(proxy.post("{}"));
    upstream.next();
    let (address, handle) = (proxy.address(), proxy.handle);
    let stopping = std::thread::spawn(move || block_on(handle.shutdown(DEADLINE)));
    assert!(idle.is_closed(), "an idle connection is closed at once");
    go.send(()).unwrap();
    assert_eq!(client.answer().text(), "ok");
    assert_eq!(stopping.join().unwrap(), DrainOutcome::Drained);
    drop(proxy.listener);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn shutdown_cuts_what_does_not_end() {
    let upstream = Upstream::start(|_, _| ());
    let proxy = Proxy::start(config(&upstream.url()));
    let mut client = proxy.connect();
    client.send(proxy.post("{}"));
    upstream.next();
    let start = Instant::now();
    let outcome = block_on(proxy.handle.shutdown(Duration::from_millis(100)));
    assert_eq!(outcome, DrainOutcome::Cut(1));
    assert!(start.elapsed() < DEADLINE);
    assert!(client.is_closed());
}

#[test]
fn dropping_the_handle_ends_everything() {
    let upstream = Upstream::start(|_, _| ());
    let proxy = Proxy::start(config(&upstream.url()));
    let mut client = proxy.connect();
    client.send(proxy.post("{}"));
    upstream.next();
    drop(proxy.handle);
    assert!(client.is_closed());
}
