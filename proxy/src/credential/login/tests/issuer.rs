//! A stand-in token endpoint that rotates refresh tokens, and fails as told.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;

use serde_json::Value;
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream,
};
use tokio::sync::watch;

use super::super::endpoint::{Connect, Connecting, Connection, EndpointUrl};
use crate::upstream::connect::ConnectError;

/// How a request ends other than well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Unreachable,
    /// Nothing is ever answered.
    Stall,
    /// The refresh token is spent, and its answer never comes.
    LostAnswer,
    /// The connection ends after the request has been read.
    HangUp,
    Status(u16),
    /// A captive portal's page, with status 200.
    Page,
}

/// The issuer. Tokens are numbered: `CANARY-access-1`, `CANARY-refresh-1`.
#[derive(Debug)]
pub(super) struct Issuer {
    inner: &'static Inner,
}

#[derive(Debug)]
struct Inner {
    books: Mutex<Books>,
    requests: watch::Sender<usize>,
    before_answer: Mutex<Option<Hook>>,
}

struct Hook(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

#[derive(Debug, Default)]
struct Books {
    failures: VecDeque<Failure>,
    /// Number of the refresh token that is good.
    good: usize,
    bodies: Vec<String>,
    /// How often a refresh token was sent that had been answered before.
    reuses: usize,
    expires_in: u64,
}

impl Issuer {
    /// It has issued the tokens numbered 0.
    pub(super) fn new() -> Self {
        let inner = Inner {
            books: Mutex::new(Books {
                expires_in: 3600,
                ..Books::default()
            }),
            requests: watch::Sender::new(0),
            before_answer: Mutex::default(),
        };
        Self {
            inner: Box::leak(Box::new(inner)),
        }
    }

    pub(super) fn fails_with(self, failures: impl IntoIterator<Item = Failure>) -> Self {
        self.fail_next(failures);
        self
    }

    pub(super) fn fail_next(&self, failures: impl IntoIterator<Item = Failure>) {
        self.inner.books.lock().unwrap().failures.extend(failures);
    }

    pub(super) fn issues_for(self, seconds: u64) -> Self {
        self.inner.books.lock().unwrap().expires_in = seconds;
        self
    }

    /// Does something between a request and its answer.
    pub(super) fn before_next_answer(&self, hook: impl FnOnce() + Send + 'static) {
        *self.inner.before_answer.lock().unwrap() = Some(Hook(Box::new(hook)));
    }

    /// How many connections were asked for.
    pub(super) fn requests(&self) -> usize {
        *self.inner.requests.borrow()
    }

    /// Waits until that many connections were asked for.
    pub(super) async fn asked(&self, times: usize) {
        let mut requests = self.inner.requests.subscribe();
        requests
            .wait_for(|requests| *requests >= times)
            .await
            .unwrap();
    }

    pub(super) fn reuses(&self) -> usize {
        self.inner.books.lock().unwrap().reuses
    }

    pub(super) fn last_body(&self) -> String {
        self.inner
            .books
            .lock()
            .unwrap()
            .bodies
            .last()
            .unwrap()
            .clone()
    }

    pub(super) fn handle(&self) -> Self {
        Self { inner: self.inner }
    }
}

impl Connect for Issuer {
    fn connect<'a>(&'a self, _endpoint: &'a EndpointUrl) -> Connecting<'a> {
        let failure = self.inner.books.lock().unwrap().failures.pop_front();
        self.inner.requests.send_modify(|requests| *requests += 1);
        Box::pin(async move {
            if failure == Some(Failure::Unreachable) {
                let source = io::ErrorKind::ConnectionRefused.into();
                let address = ([127, 0, 0, 1], 443).into();
                return Err(ConnectError::Connect { address, source });
            }
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            tokio::spawn(self.inner.serve(theirs, failure));
            Ok(Box::new(ours) as Box<dyn Connection>)
        })
    }
}

impl Inner {
    async fn serve(&self, stream: DuplexStream, failure: Option<Failure>) {
        let mut stream = BufReader::new(stream);
        let body = read_request(&mut stream).await;
        let (status, answer) = match failure {
            None => self.answer(&body),
            Some(Failure::Status(status)) => (status, body.clone()),
            Some(Failure::Page) => (200, "<html>Welcome</html>".to_owned()),
            Some(Failure::HangUp | Failure::Unreachable) => return,
            Some(Failure::LostAnswer) => {
                self.answer(&body);
                self.run_hook();
                std::future::pending().await
            }
            Some(Failure::Stall) => std::future::pending().await,
        };
        self.run_hook();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        // A client that has given up is part of some tests.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    fn run_hook(&self) {
        if let Some(Hook(hook)) = self.before_answer.lock().unwrap().take() {
            hook();
        }
    }

    fn answer(&self, body: &str) -> (u16, String) {
        let mut books = self.books.lock().unwrap();
        books.bodies.push(body.to_owned());
        if !body.contains(&format!("CANARY-refresh-{}", books.good)) {
            books.reuses += 1;
            // Some issuers repeat what they were sent.
            return (
                400,
                format!(
                    r#"{{"error":"invalid_grant","error_description":{}}}"#,
                    Value::from(body)
                ),
            );
        }
        books.good += 1;
        let (number, expires_in) = (books.good, books.expires_in);
        let answer = serde_json::json!({
            "access_token": format!("CANARY-access-{number}"),
            "refresh_token": format!("CANARY-refresh-{number}"),
            "id_token": format!("CANARY-id-{number}"),
            "expires_in": expires_in,
            "scope": "user:inference user:profile",
        });
        (200, answer.to_string())
    }
}

async fn read_request(stream: &mut BufReader<DuplexStream>) -> String {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if line == "\r\n" || line.is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}
