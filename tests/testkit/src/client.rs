//! A client that sends exactly the bytes it is told to.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::wait::PATIENCE;

/// A connection to a proxy.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The head, names in lower case.
    pub head: String,
    /// The body, without its chunk framing.
    pub body: String,
}

impl Response {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    }

    /// The body as JSON, null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// Nobody listens there.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Sends one request on a connection of its own and reads the response.
    ///
    /// # Panics
    /// There is no response in time.
    #[must_use]
    pub fn ask(
        address: SocketAddr,
        method: &str,
        target: &str,
        headers: &str,
        body: &str,
    ) -> Response {
        let mut client = Self::connect(address);
        client.send(&request(address, method, target, headers, body));
        client.response()
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// The connection is closed.
    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until the received text holds a piece, and returns all of it.
    ///
    /// # Errors
    /// The connection ends, or is reset, before that.
    ///
    /// # Panics
    /// Nothing comes within [`PATIENCE`].
    pub fn read_until(&mut self, piece: &str) -> io::Result<String> {
        loop {
            let text = String::from_utf8_lossy(&self.unread).into_owned();
            if text.contains(piece) {
                return Ok(text);
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)),
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    panic!("waited {PATIENCE:?} for {piece:?} after {text:?}")
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a whole response.
    ///
    /// # Panics
    /// It does not come, or is cut short.
    #[must_use]
    pub fn response(&mut self) -> Response {
        let text = self.read_until("\r\n\r\n").expect("a response's head");
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let at = memchr::memmem::find(&self.unread, b"\r\n\r\n").unwrap() + 4;
        let mut body = self.unread.split_off(at);
        self.unread.clear();
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .unwrap();
        let status = status.parse().unwrap();
        let lower = |line: &str| match line.split_once(':') {
            Some((name, value)) => format!("{}: {}\n", name.to_lowercase(), value.trim()),
            None => String::new(),
        };
        let mut response = Response {
            status,
            head: lines.map(lower).collect(),
            body: String::new(),
        };
        let bytes = if response.header("transfer-encoding").is_some() {
            self.chunked(&mut body)
        } else {
            let length = response
                .header("content-length")
                .map_or(0, |n| n.parse().unwrap());
            self.fill(&mut body, length);
            body
        };
        response.body = String::from_utf8_lossy(&bytes).into_owned();
        response
    }

    /// Whether the connection is closed or reset by the other side.
    ///
    /// # Panics
    /// It is still open after [`PATIENCE`].
    #[must_use]
    pub fn is_closed(&mut self) -> bool {
        self.read_until("\u{1}never\u{1}").is_err()
    }

    /// Lets reads fail soon instead of after [`PATIENCE`].
    ///
    /// # Panics
    /// The socket is gone.
    pub fn set_patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }

    fn fill(&mut self, body: &mut Vec<u8>, length: usize) {
        let start = body.len();
        if start < length {
            body.resize(length, 0);
            self.stream
                .read_exact(&mut body[start..])
                .expect("a whole body");
        }
    }

    fn chunked(&mut self, raw: &mut Vec<u8>) -> Vec<u8> {
        let mut body = Vec::new();
        let mut at = 0;
        loop {
            let end = loop {
                if let Some(found) = memchr::memmem::find(&raw[at..], b"\r\n") {
                    break at + found;
                }
                self.fill(raw, raw.len() + 1);
            };
            let size = std::str::from_utf8(&raw[at..end]).unwrap();
            let size = usize::from_str_radix(size.split(';').next().unwrap(), 16).unwrap();
            self.fill(raw, end + 2 + size + 2);
            body.extend_from_slice(&raw[end + 2..end + 2 + size]);
            at = end + 2 + size + 2;
            if size == 0 {
                return body;
            }
        }
    }
}

/// A request with a content length.
#[must_use]
pub fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &str,
    body: &str,
) -> String {
    let length = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}
