//! Clients that ask, listen, and leave when they like.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// No request takes longer, whatever the upstream does; the proxy's deadlines
/// are seconds.
const STUCK: Duration = Duration::from_secs(60);

/// The longest key, and more.
const OVERLAP: usize = 128;

/// What all clients share.
pub(super) struct Shared {
    proxy: SocketAddr,
    token: Mutex<String>,
    keys: Vec<Vec<u8>>,
    /// The shortest time between two events, in milliseconds.
    pause: u64,
    outcomes: Mutex<BTreeMap<String, u64>>,
}

impl Shared {
    pub(super) fn new(proxy: SocketAddr, token: String, keys: &[&str], pause: u64) -> Self {
        Self {
            proxy,
            token: Mutex::new(token),
            keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            pause,
            outcomes: Mutex::default(),
        }
    }

    /// Returns the token that was used until now.
    pub(super) fn replace_token(&self, token: String) -> String {
        std::mem::replace(&mut self.token.lock().unwrap(), token)
    }

    fn count(&self, outcome: impl Into<String>) {
        let mut outcomes = self.outcomes.lock().unwrap();
        *outcomes.entry(outcome.into()).or_default() += 1;
    }

    pub(super) fn assert_nothing_went_wrong(&self) {
        let outcomes = self.outcomes.lock().unwrap();
        for wrong in ["stuck", "showed the key", "cannot connect"] {
            assert!(!outcomes.contains_key(wrong), "{outcomes:?}");
        }
    }

    /// Fails unless everything that can happen has happened.
    pub(super) fn assert_all_was_there(&self) {
        let outcomes = self.outcomes.lock().unwrap();
        for expected in ["whole", "left", "broke off", "504"] {
            assert!(
                outcomes.contains_key(expected),
                "no {expected}: {outcomes:?}"
            );
        }
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcomes = self.outcomes.lock().unwrap();
        let total: u64 = outcomes.values().sum();
        write!(f, "{total} requests, {outcomes:?}")
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// How the upstream is to behave, and when this client leaves.
struct Plan {
    upstream: String,
    leaves_after: Option<u64>,
    leaves_in_upload: bool,
}

impl Plan {
    fn roll(dice: &mut Dice, pause: u64) -> Self {
        let end = match dice.below(20) {
            0 => "stall",
            1 => "hang",
            2 | 3 => "drop",
            4 => "refuse",
            5..=7 => "echo",
            _ => "end",
        };
        let (events, pause) = (1 + dice.below(8), pause + dice.below(5 * pause));
        Self {
            upstream: format!("{events} {pause} {end}"),
            leaves_after: (dice.below(3) == 0).then(|| dice.below(5)),
            leaves_in_upload: dice.below(20) == 0,
        }
    }
}

/// Asks until it is told to stop.
pub(super) async fn run(number: u64, shared: std::sync::Arc<Shared>, stop: CancellationToken) {
    let mut dice = Dice(number);
    let mut kept = None;
    // Not all in the same moment.
    tokio::time::sleep(Duration::from_millis(dice.below(3000))).await;
    while !stop.is_cancelled() {
        let plan = Plan::roll(&mut dice, shared.pause);
        let exchange = tokio::time::timeout(STUCK, exchange(&mut kept, &plan, &shared));
        let outcome = tokio::select! {
            outcome = exchange => outcome,
            () = stop.cancelled() => break,
        };
        match outcome {
            Err(_) => shared.count("stuck"),
            Ok(Ok(outcome)) => shared.count(outcome),
            Ok(Err(_)) => shared.count("broke off"),
        }
    }
}

/// One request. The connection is kept when the answer was whole.
async fn exchange(
    kept: &mut Option<TcpStream>,
    plan: &Plan,
    shared: &Shared,
) -> io::Result<String> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => match TcpStream::connect(shared.proxy).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream
            }
            Err(_) => return Ok("cannot connect".to_owned()),
        },
    };
    let body = "x".repeat(4096);
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\nx-plan: {}\r\n\
         content-length: {}\r\n\r\n",
        shared.token.lock().unwrap(),
        plan.upstream,
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if plan.leaves_in_upload {
        stream.write_all(&body.as_bytes()[..1000]).await?;
        return Ok("left".to_owned());
    }
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Answer::default();
    let mut pieces = 0;
    while !answer.is_whole() {
        if plan.leaves_after == Some(pieces) {
            return Ok("left".to_owned());
        }
        answer.read(&mut stream).await?;
        pieces += 1;
        if answer.shows_one_of(&shared.keys) {
            return Ok("showed the key".to_owned());
        }
    }
    *kept = Some(stream);
    Ok(match answer.status().as_str() {
        "200" => "whole".to_owned(),
        status => status.to_owned(),
    })
}

/// The head of an answer, and the end of what has come.
#[derive(Default)]
struct Answer {
    head: Option<(String, usize)>,
    recent: Vec<u8>,
    body_bytes: usize,
}

impl Answer {
    async fn read(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        if self.head.is_some() {
            let surplus = self.recent.len().saturating_sub(OVERLAP);
            self.recent.drain(..surplus);
        }
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.recent.extend_from_slice(&buffer[..read]);
        if self.head.is_some() {
            self.body_bytes += read;
        } else if let Some(end) = memmem::find(&self.recent, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&self.recent[..end]).into_owned();
            self.body_bytes = self.recent.len() - end - 4;
            self.head = Some((head, end));
        }
        Ok(())
    }

    fn status(&self) -> String {
        let head = self.head.as_ref().map_or("", |(head, _)| head);
        head.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    fn is_whole(&self) -> bool {
        let Some((head, _)) = &self.head else {
            return false;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        match length {
            Some(length) => self.body_bytes >= length.parse().unwrap(),
            None => self.body_bytes > 0 && self.recent.ends_with(b"\r\n0\r\n\r\n"),
        }
    }

    fn shows_one_of(&self, keys: &[Vec<u8>]) -> bool {
        keys.iter()
            .any(|key| memmem::find(&self.recent, key).is_some())
    }
}
