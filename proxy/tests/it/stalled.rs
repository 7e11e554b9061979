//! Clients that do not take their answers, over either protocol.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use drawbridge_proxy::config::ProxyConfig;

use crate::support::{Client, DEADLINE, Proxy, Upstream, config};

const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;

/// An upstream whose answers do not end, and which tells when one is given up.
fn endless() -> (Upstream, Receiver<()>) {
    let (sender, given_up) = channel();
    let upstream = Upstream::start(move |_, stream| {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let piece = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
        let mut sent = stream.write_all(head);
        while sent.is_ok() {
            sent = stream.write_all(piece.as_bytes());
        }
        let _ = sender.send(());
    });
    (upstream, given_up)
}

fn impatient(upstream: &Upstream) -> ProxyConfig {
    let mut config = config(&upstream.url());
    config.deadlines.idle = Duration::from_millis(100);
    config
}

/// A client of HTTP/2 that gives each stream this much room and no more.
struct Http2(Client);

/// Kind, flags, stream and content of a frame.
type Frame = (u8, u8, u32, Vec<u8>);

impl Http2 {
    fn connect(proxy: &Proxy, window: u32) -> Self {
        let mut client = proxy.connect();
        let settings = [
            &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4][..],
            &window.to_be_bytes(),
        ];
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        client.send(settings.concat());
        Self(client)
    }

    /// Asks for the models.
    fn ask(&mut self, proxy: &Proxy, stream: u32) {
        let token = proxy.session.token().as_bytes();
        // GET and http by their static numbers, the rest as text.
        let mut block = vec![0x82, 0x86, 4, 10];
        block.extend(b"/v1/models");
        block.extend([1, 5]);
        block.extend(b"proxy");
        block.extend([0, 9]);
        block.extend(b"x-api-key");
        block.push(u8::try_from(token.len()).unwrap());
        block.extend(token);
        let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 5];
        frame.extend(stream.to_be_bytes());
        frame.extend(block);
        self.0.send(frame);
    }

    /// The next frame; none at the end of the connection.
    fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.reader.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut content = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        self.0.reader.read_exact(&mut content).ok()?;
        Some((kind, flags, u32::from_be_bytes(stream), content))
    }

    fn wait_for(&mut self, what: &str, is_it: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let frame = self.frame();
            let frame = frame.unwrap_or_else(|| panic!("no {what} in {frames:?}"));
            frames.push(frame);
            if frames.last().is_some_and(&is_it) {
                return frames;
            }
        }
    }
}

#[test]
fn class_25_an_answer_that_is_not_read_is_given_up() {
    let (upstream, given_up) = endless();
    let proxy = Proxy::start(impatient(&upstream));
    let stream = TcpStream::connect(proxy.address()).unwrap();
    let mut client = Client::new(stream);
    client.send(proxy.post("{}"));
    given_up.recv_timeout(DEADLINE).expect("the answer's end");
}

#[test]
fn class_25_an_http2_answer_without_a_window_is_given_up() {
    let (upstream, given_up) = endless();
    let proxy = Proxy::start(impatient(&upstream));
    for window in [0, 1000] {
        let mut client = Http2::connect(&proxy, window);
        client.ask(&proxy, 1);
        client.wait_for("reset", |(kind, _, stream, _)| {
            (*kind, *stream) == (RST_STREAM, 1)
        });
        given_up.recv_timeout(DEADLINE).expect("the answer's end");
    }
}

/// Neither does what is left of an answer that has ended for the upstream, and
/// the connection's other streams go on.
#[test]
fn class_25_the_end_of_an_http2_answer_does_not_wait_for_ever() {
    // In many pieces, in one that is large, and in one that fits.
    let lengths = [100_000, 6000, 500];
    let count = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start(move |_, stream| {
        let answer = "x".repeat(lengths[count.fetch_add(1, Relaxed)]);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all((head + &answer).as_bytes()).unwrap();
    });
    let proxy = Proxy::start(impatient(&upstream));
    let mut client = Http2::connect(&proxy, 1000);
    for number in [1, 3] {
        client.ask(&proxy, number);
        let frames = client.wait_for("reset", |(kind, _, stream, _)| {
            (*kind, *stream) == (RST_STREAM, number)
        });
        let taken = frames.iter().filter(|frame| frame.0 == DATA);
        assert_eq!(taken.map(|frame| frame.3.len()).sum::<usize>(), 1000);
    }
    client.ask(&proxy, 5);
    let end = |(kind, flags, stream, _): &Frame| {
        (*kind, *flags & END_STREAM, *stream) == (DATA, END_STREAM, 5)
    };
    client.wait_for("end", end);
}

#[test]
fn an_http2_connection_without_requests_is_closed() {
    let upstream = Upstream::answering();
    let mut config = impatient(&upstream);
    config.deadlines.keep_alive = Duration::from_millis(100);
    let proxy = Proxy::start(config);
    let mut client = Http2::connect(&proxy, 1000);
    client.ask(&proxy, 1);
    client.wait_for("farewell", |frame| frame.0 == GOAWAY);
    client.0.rest();
    upstream.next();
}

/// The client sends it before it learns that the connection is to end.
#[test]
#[expect(clippy::disallowed_methods, reason = "an upstream that takes its time")]
fn an_http2_request_that_meets_the_end_of_its_connection_is_answered() {
    let upstream = Upstream::start(|_, stream| {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).unwrap();
        // Longer than a client's silence may be, without one of its own.
        for _ in 0..5 {
            stream.write_all(b"1\r\nx\r\n").unwrap();
            std::thread::sleep(Duration::from_millis(300));
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let mut config = config(&upstream.url());
    config.deadlines.idle = Duration::from_secs(1);
    config.deadlines.keep_alive = Duration::from_millis(100);
    let proxy = Proxy::start(config);
    let mut client = Http2::connect(&proxy, 1000);
    client.wait_for("farewell", |frame| frame.0 == GOAWAY);
    client.ask(&proxy, 1);
    client.wait_for("end", |(kind, flags, stream, _)| {
        (*kind, *flags & END_STREAM, *stream) == (DATA, END_STREAM, 1)
    });
    client.0.rest();
}
