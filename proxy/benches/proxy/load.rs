//! The load: closed-loop requests, event streams, large bodies.
//!
//! Everything runs on one thread, as each proxy does, and parses next to
//! nothing. The figures without any proxy show how far it is from being the
//! bottleneck.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use memchr::memmem;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::clock;
use crate::http::Reader;
use crate::peers::Endpoint;
use crate::stats::Latencies;
use crate::upstream::LARGE_BODY;

/// Longest time for anything that should take far less.
const DEADLINE: Duration = Duration::from_secs(60);

/// Body of a small request.
const SMALL_BODY: usize = 1024;

/// What a run of small requests gave.
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    pub(crate) latencies: Latencies,
}

fn head(endpoint: &Endpoint, query: &str, length: usize, connection: &str) -> Vec<u8> {
    // About what an SDK sends.
    format!(
        "POST /v1/messages?{query} HTTP/1.1\r\nhost: {}\r\nx-api-key: {}\r\n\
         anthropic-version: 2023-06-01\r\nanthropic-beta: interleaved-thinking-2025-05-14\r\n\
         user-agent: drawbridge-bench/1.0\r\naccept: application/json\r\n\
         accept-encoding: gzip, deflate, br\r\nx-stainless-lang: js\r\nx-stainless-os: Linux\r\n\
         x-stainless-retry-count: 0\r\ncontent-type: application/json\r\n\
         {connection}content-length: {length}\r\n\r\n",
        endpoint.address, endpoint.token
    )
    .into_bytes()
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Small requests on `connections` connections that are kept open.
pub(crate) async fn requests(
    endpoint: &Endpoint,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Rate> {
    let mut request = head(endpoint, "bench=small", SMALL_BODY, "");
    request.resize(request.len() + SMALL_BODY, b'x');
    let begin = Instant::now();
    let end = begin + time;
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        let (address, request) = (endpoint.address, request.clone());
        workers.spawn(async move {
            let mut reader = Reader::new(connect(address).await?);
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let sent = clock::now();
                exchange(&mut reader, &request).await?;
                latencies.push(clock::now() - sent);
            }
            anyhow::Ok(latencies)
        });
    }
    collect(workers, begin).await
}

/// Small requests, each on a connection of its own.
pub(crate) async fn connections(endpoint: &Endpoint, time: Duration) -> anyhow::Result<Rate> {
    const WORKERS: usize = 16;
    let mut request = head(endpoint, "bench=small", SMALL_BODY, "connection: close\r\n");
    request.resize(request.len() + SMALL_BODY, b'x');
    let begin = Instant::now();
    let end = begin + time;
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (address, request) = (endpoint.address, request.clone());
        workers.spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let sent = clock::now();
                let mut reader = Reader::new(connect(address).await?);
                exchange(&mut reader, &request).await?;
                latencies.push(clock::now() - sent);
            }
            anyhow::Ok(latencies)
        });
    }
    collect(workers, begin).await
}

async fn exchange(reader: &mut Reader<TcpStream>, request: &[u8]) -> anyhow::Result<()> {
    reader.stream().write_all(request).await?;
    let head = reader
        .head()
        .await?
        .context("the connection ended before an answer")?;
    if !head.is_ok() {
        bail!("an answer other than 200: {}", head.text());
    }
    reader.skip_body(&head).await?;
    Ok(())
}

async fn collect(
    mut workers: JoinSet<anyhow::Result<Vec<u64>>>,
    begin: Instant,
) -> anyhow::Result<Rate> {
    let mut all = Vec::new();
    let collecting = async {
        while let Some(worker) = workers.join_next().await {
            all.extend(worker??);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(DEADLINE, collecting)
        .await
        .context("requests hang")??;
    let latencies = Latencies::new(all);
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let per_second = latencies.len() as f64 / begin.elapsed().as_secs_f64();
    Ok(Rate {
        per_second,
        latencies,
    })
}

/// Event streams that are open; dropping it closes them.
pub(crate) struct Streams {
    readers: JoinSet<anyhow::Result<Vec<u64>>>,
    measure: tokio::sync::watch::Sender<Phase>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warm,
    Measure,
    End,
}

impl Streams {
    /// Opens streams, spread over one interval so that they do not tick as one.
    pub(crate) async fn open(endpoint: &Endpoint, count: usize) -> anyhow::Result<Self> {
        let (measure, phase) = tokio::sync::watch::channel(Phase::Warm);
        let mut request = head(endpoint, "bench=events", 2, "");
        request.extend_from_slice(b"{}");
        let mut readers = JoinSet::new();
        for _ in 0..count {
            let mut reader = Reader::new(connect(endpoint.address).await?);
            reader.stream().write_all(&request).await?;
            let head = tokio::time::timeout(DEADLINE, reader.head()).await??;
            let head = head.context("the connection ended before an answer")?;
            if !head.is_ok() {
                bail!("an answer other than 200: {}", head.text());
            }
            readers.spawn(read_events(reader, phase.clone()));
        }
        Ok(Self { readers, measure })
    }

    /// The delay of each event that arrives in the next `time`.
    pub(crate) async fn delays(mut self, time: Duration) -> anyhow::Result<Latencies> {
        self.measure.send(Phase::Measure)?;
        tokio::time::sleep(time).await;
        self.measure.send(Phase::End)?;
        let mut all = Vec::new();
        let collecting = async {
            while let Some(reader) = self.readers.join_next().await {
                all.extend(reader??);
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(DEADLINE, collecting)
            .await
            .context("streams hang")??;
        Ok(Latencies::new(all))
    }
}

/// Reads events to the end and notes how old each is on arrival.
async fn read_events(
    mut reader: Reader<TcpStream>,
    phase: tokio::sync::watch::Receiver<Phase>,
) -> anyhow::Result<Vec<u64>> {
    const KEY: &[u8] = b"\"sent\":";
    let mut delays = Vec::new();
    let mut text = Vec::new();
    loop {
        let piece = reader.piece().await?;
        let arrived = clock::now();
        if piece.is_empty() {
            bail!("a stream ended");
        }
        text.extend_from_slice(piece);
        let mut read = 0;
        while let Some(at) = memmem::find(&text[read..], KEY) {
            let digits = read + at + KEY.len();
            let Some(length) = text[digits..]
                .iter()
                .position(|byte| !byte.is_ascii_digit())
            else {
                break;
            };
            let sent: u64 = std::str::from_utf8(&text[digits..digits + length])?.parse()?;
            match *phase.borrow() {
                Phase::Warm => {}
                Phase::Measure => delays.push(arrived.saturating_sub(sent)),
                Phase::End => return Ok(delays),
            }
            read = digits + length;
        }
        text.drain(..read);
    }
}

/// Which way a large body goes.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    Up,
    Down,
}

/// Megabytes per second of one large body.
pub(crate) async fn large_body(endpoint: &Endpoint, way: Way) -> anyhow::Result<f64> {
    let mut reader = Reader::new(connect(endpoint.address).await?);
    let piece = vec![b'x'; 64 * 1024];
    let begin = Instant::now();
    let transfer = async {
        let (query, length) = match way {
            Way::Up => ("bench=upload", LARGE_BODY),
            Way::Down => ("bench=download", 2),
        };
        reader
            .stream()
            .write_all(&head(endpoint, query, length, ""))
            .await?;
        let mut left = length;
        while left > 0 {
            let here = left.min(piece.len());
            reader.stream().write_all(&piece[..here]).await?;
            left -= here;
        }
        let head = reader
            .head()
            .await?
            .context("the connection ended before an answer")?;
        if !head.is_ok() {
            bail!("an answer other than 200: {}", head.text());
        }
        reader.skip_body(&head).await?;
        anyhow::Ok(())
    };
    tokio::time::timeout(DEADLINE, transfer)
        .await
        .context("a large body hangs")??;
    #[expect(clippy::cast_precision_loss, reason = "32 MB is far below 2^52")]
    let megabytes = LARGE_BODY as f64 / 1e6;
    Ok(megabytes / begin.elapsed().as_secs_f64())
}
