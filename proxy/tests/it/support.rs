//! A proxy under test, an upstream made of raw sockets, and a raw client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use drawbridge_proxy::config::ProxyConfig;
use drawbridge_proxy::session::{SessionGuard, SessionSpec};
use drawbridge_proxy::{ListenerGuard, ProxyHandle};
use drawbridge_settings::Environment;

/// The fake key that the upstream must see and nobody else.
pub(crate) const KEY: &str = "sk-ant-fake-CANARY-0123456789";

/// The longest any test waits for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// One request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Seen {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let matching = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        matching.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// An upstream that shows each request to a script, which writes the answer.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Receiver<Seen>,
}

impl Upstream {
    pub(crate) fn start(script: impl Fn(&Seen, &mut TcpStream) + Send + Clone + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, seen) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (sender, script) = (sender.clone(), script.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &sender, &script));
            }
        });
        Self { address, seen }
    }

    /// Answers everything with 200 and a small JSON body.
    pub(crate) fn answering() -> Self {
        Self::start(|_, stream| {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                content-length: 11\r\nset-cookie: a=b\r\n\r\n{\"ok\":true}";
            let _ = stream.write_all(answer);
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn next(&self) -> Seen {
        self.seen.recv_timeout(DEADLINE).expect("a request")
    }

    pub(crate) fn assert_unused(&self) {
        assert!(self.seen.try_recv().is_err(), "the upstream was contacted");
    }
}

fn serve(stream: TcpStream, seen: &Sender<Seen>, script: &impl Fn(&Seen, &mut TcpStream)) {
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        let _ = seen.send(request.clone());
        script(&request, &mut writer);
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Seen> {
    let mut request = Seen {
        line: read_line(reader)?,
        ..Seen::default()
    };
    request.headers = read_headers(reader)?;
    (request.body, request.trailers) = read_body(reader, &request)?;
    Some(request)
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let read = reader.read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}

fn read_headers(reader: &mut impl BufRead) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Some(headers);
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

type Headers = Vec<(String, String)>;

fn read_body(reader: &mut impl BufRead, message: &Seen) -> Option<(Vec<u8>, Headers)> {
    if message.get("transfer-encoding") == Some("chunked") {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&read_line(reader)?, 16).ok()?;
            if size == 0 {
                return Some((body, read_headers(reader)?));
            }
            let start = body.len();
            body.resize(start + size, 0);
            reader.read_exact(&mut body[start..]).ok()?;
            read_line(reader)?;
        }
    }
    let length = message
        .get("content-length")
        .map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((body, Vec::new()))
}

/// A configuration with one worker, the fake key and this upstream.
pub(crate) fn config(upstream: &str) -> ProxyConfig {
    config_from(&[("ANTHROPIC_API_KEY", KEY), ("ANTHROPIC_BASE_URL", upstream)])
}

pub(crate) fn config_from(variables: &[(&str, &str)]) -> ProxyConfig {
    let environment = Environment::new(variables.iter().copied(), "/nonexistent");
    let mut config = ProxyConfig::resolve(None, &environment).unwrap();
    config.workers = NonZeroUsize::MIN;
    config
}

/// A proxy with one TCP listener and one session.
pub(crate) struct Proxy {
    pub(crate) handle: ProxyHandle,
    pub(crate) listener: ListenerGuard,
    pub(crate) session: SessionGuard,
}

impl Proxy {
    pub(crate) fn start(config: ProxyConfig) -> Self {
        let handle = ProxyHandle::start(config).unwrap();
        let listener = handle.listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let session = handle.sessions().issue(spec()).unwrap();
        Self {
            handle,
            listener,
            session,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address()).unwrap())
    }

    /// A POST to the Messages API with this session's token.
    pub(crate) fn post(&self, body: &str) -> String {
        let (token, length) = (self.session.token(), body.len());
        format!(
            "POST /v1/messages HTTP/1.1\r\nhost: proxy\r\nx-api-key: {token}\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    }
}

pub(crate) fn spec() -> SessionSpec {
    let run = "run-00000001".parse().unwrap();
    SessionSpec::new(run, Duration::from_secs(600))
}

/// A client that writes bytes and reads answers.
pub(crate) struct Client {
    pub(crate) reader: BufReader<TcpStream>,
}

/// An answer as the client read it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Seen,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.head.body).into_owned()
    }
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            reader: BufReader::new(stream),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.reader.get_mut().write_all(bytes.as_ref()).unwrap();
        self
    }

    /// The head of the next answer.
    pub(crate) fn head(&mut self) -> Answer {
        let line = read_line(&mut self.reader).expect("an answer");
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let headers = read_headers(&mut self.reader).unwrap();
        let head = Seen {
            line,
            headers,
            ..Seen::default()
        };
        Answer { status, head }
    }

    /// The next answer with its body.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let (body, trailers) = read_body(&mut self.reader, &answer.head).expect("a whole body");
        (answer.head.body, answer.head.trailers) = (body, trailers);
        answer
    }

    /// Whether the proxy closes the connection without another byte, in time.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.reader.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => !is_timeout(&error),
        }
    }

    /// What comes until the end of the connection, which has to come in time.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        if let Err(error) = self.reader.read_to_end(&mut rest) {
            let text = String::from_utf8_lossy(&rest);
            assert!(!is_timeout(&error), "still open after {text}");
        }
        rest
    }
}

/// Whether nothing came, rather than an end.
fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
