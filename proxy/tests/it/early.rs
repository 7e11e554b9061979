//! Answers that are whole before the request is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use crate::support::{DEADLINE, Proxy, config};

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
