//! An upstream that does what the request's `x-plan` says: so many events, so
//! many milliseconds apart, and then an end of some kind.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(super) async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Clients that leave are part of the test.
            tokio::spawn(async move { serve(stream).await.ok() });
        }
    });
    address
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut unread = Vec::new();
    while let Some(head) = read_request(&mut stream, &mut unread).await? {
        let plan = field(&head, "x-plan").unwrap_or_default().to_owned();
        let mut words = plan.split(' ');
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let (events, pause) = (number(), Duration::from_millis(number()));
        let end = words.next().unwrap_or_default();
        match end {
            "hang" => return until_left(&mut stream).await,
            "refuse" => {
                stream
                    .write_all(b"HTTP/1.1 529 Overloaded\r\ncontent-length: 2\r\n\r\n{}")
                    .await?;
                continue;
            }
            _ => {}
        }
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                  transfer-encoding: chunked\r\n\r\n",
            )
            .await?;
        for _ in 0..events {
            event(&mut stream, "nothing new").await?;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                left = until_left(&mut stream) => return left,
            }
        }
        match end {
            "stall" => return until_left(&mut stream).await,
            "drop" => return stream.write_all(b"40\r\ndata: half").await,
            "echo" => {
                let key = field(&head, "x-api-key").unwrap_or_default().to_owned();
                let (first, second) = key.split_at(key.len() / 2);
                event(&mut stream, &format!("whole {key}")).await?;
                // In two chunks, which the scrubber has to put together.
                stream
                    .write_all(format!("{:x}\r\n{first}\r\n", first.len()).as_bytes())
                    .await?;
                stream
                    .write_all(format!("{:x}\r\n{second}\r\n", second.len()).as_bytes())
                    .await?;
            }
            _ => {}
        }
        stream.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}

async fn event(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    let event = format!("event: ping\ndata: {{\"text\":\"{text}\"}}\n\n");
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    stream.write_all(chunk.as_bytes()).await
}

/// The proxy sends nothing before its request is answered but its leave.
async fn until_left(stream: &mut TcpStream) -> io::Result<()> {
    stream.read_u8().await.map(drop)
}

/// The head of the next request, whose body is read and dropped.
async fn read_request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = memmem::find(unread, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&unread[..end]).into_owned();
            let length = field(&head, "content-length").and_then(|length| length.parse().ok());
            let whole = end + 4 + length.unwrap_or(0);
            if unread.len() >= whole {
                unread.drain(..whole);
                return Ok(Some(head));
            }
        }
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(None);
        }
        unread.extend_from_slice(&buffer[..read]);
    }
}

fn field<'head>(head: &'head str, name: &str) -> Option<&'head str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let field = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
    field.map(|(_, value)| value)
}
