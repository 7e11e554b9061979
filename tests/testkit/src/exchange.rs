//! Answers with full control over every byte.

use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;

use crate::wait::PATIENCE;

/// The answering side of one request.
pub struct Exchange<'a> {
    stream: &'a mut BufReader<Stream>,
    socket: &'a TcpStream,
    is_over: bool,
}

impl<'a> Exchange<'a> {
    pub(crate) const fn new(stream: &'a mut BufReader<Stream>, socket: &'a TcpStream) -> Self {
        Self {
            stream,
            socket,
            is_over: false,
        }
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// The client is gone.
    pub fn raw(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes.as_ref())?;
        stream.flush()
    }

    /// Sends a whole response.
    ///
    /// # Errors
    /// The client is gone.
    pub fn respond(
        &mut self,
        status: u16,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> io::Result<()> {
        let body = body.as_ref();
        self.raw(head(
            status,
            headers,
            &format!("content-length: {}", body.len()),
        ))?;
        self.raw(body)
    }

    /// Sends a JSON response.
    ///
    /// # Errors
    /// The client is gone.
    pub fn respond_json(&mut self, status: u16, body: &Value) -> io::Result<()> {
        self.respond(
            status,
            &[("content-type", "application/json")],
            body.to_string(),
        )
    }

    /// Starts a chunked response.
    ///
    /// # Errors
    /// The client is gone.
    pub fn begin(&mut self, status: u16, headers: &[(&str, &str)]) -> io::Result<()> {
        self.raw(head(status, headers, "transfer-encoding: chunked"))
    }

    /// Sends one chunk.
    ///
    /// # Errors
    /// The client is gone.
    pub fn chunk(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let bytes = bytes.as_ref();
        self.raw([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
    }

    /// Sends one event of an event stream; its name is the data's `type`.
    ///
    /// # Errors
    /// The client is gone.
    pub fn event(&mut self, data: &Value) -> io::Result<()> {
        let name = data["type"].as_str().unwrap_or("message");
        self.chunk(format!("event: {name}\ndata: {data}\n\n"))
    }

    /// Ends a chunked response.
    ///
    /// # Errors
    /// The client is gone.
    pub fn end(&mut self) -> io::Result<()> {
        self.raw("0\r\n\r\n")
    }

    /// Closes the connection when the script returns, with whatever was sent.
    pub fn close(&mut self) {
        self.is_over = true;
    }

    /// Resets the connection at once: the client sees an error, not an end.
    ///
    /// # Errors
    /// The socket option cannot be set.
    pub fn reset(&mut self) -> io::Result<()> {
        self.is_over = true;
        rustix::net::sockopt::set_socket_linger(self.socket, Some(Duration::ZERO))?;
        // Linger zero turns the last close into a reset; connecting to nowhere
        // is what dissolves the association while other handles are open.
        rustix::net::connect_unspec(self.socket)?;
        Ok(())
    }

    /// Waits until the client has closed or reset the connection.
    ///
    /// # Panics
    /// It has not within [`PATIENCE`].
    pub fn wait_until_client_leaves(&mut self) {
        self.is_over = true;
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0];
        match self.stream.get_mut().read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                panic!("the client is still there after {PATIENCE:?}")
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

fn head(status: u16, headers: &[(&str, &str)], framing: &str) -> String {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("HTTP/1.1 {status} Status\r\n{lines}{framing}\r\n\r\n")
}

pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
