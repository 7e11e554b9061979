//! Switching protocols, as WebSocket does: asked of the upstream, granted to
//! the client only after the upstream has granted it, then relayed as bytes.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until};

use super::response_body::Exchange;
use crate::scrub::{Patterns, Scrubber};

mod subprotocol;

const BUFFER_BYTES: usize = 16 * 1024;

/// The longest that both sides may take to switch once they agreed.
const SWITCH_LIMIT: Duration = Duration::from_secs(10);

/// Longest time that the end of the upstream's data may be held back because a secret
/// may begin with it. Who waits for the last byte of a message would wait indefinitely.
const HOLD: Duration = Duration::from_millis(20);

/// The protocol that a request asks to switch to. `h2c` is an offer that may be
/// ignored, and HTTP/2 is to be had with prior knowledge.
pub(crate) fn requested(head: &Parts) -> Option<HeaderValue> {
    let protocol = head.headers.get(UPGRADE)?;
    let is_named = names_upgrade(&head.headers);
    let is_upgrade = head.version == Version::HTTP_11
        && head.method == Method::GET
        && is_named
        && !protocol.as_bytes().eq_ignore_ascii_case(b"h2c");
    is_upgrade.then(|| protocol.clone())
}

/// Asks the upstream for the same switch, after hop-by-hop headers were removed.
pub(crate) fn ask(headers: &mut HeaderMap, protocol: HeaderValue) {
    subprotocol::remove_credentials(headers);
    switch(headers, protocol);
}

/// Grants the client the switch that the upstream has granted.
pub(crate) fn switch(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Whether an answer grants the switch to the protocol that was asked for.
pub(crate) fn is_granted(headers: &HeaderMap, protocol: &HeaderValue) -> bool {
    let granted = headers.get(UPGRADE).map(HeaderValue::as_bytes);
    names_upgrade(headers)
        && granted.is_some_and(|granted| granted.eq_ignore_ascii_case(protocol.as_bytes()))
}

fn names_upgrade(headers: &HeaderMap) -> bool {
    let named = headers.get_all(CONNECTION).iter();
    let mut named = named.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    named.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// Relays until both sides have ended, one broke off, the session was revoked,
/// or both were silent for `idle`. Secrets are removed from what the upstream
/// sends.
pub(crate) async fn relay(
    client: OnUpgrade,
    upstream: OnUpgrade,
    patterns: Patterns,
    idle: Duration,
    mut exchange: Exchange,
) {
    let switching = async { Ok::<_, hyper::Error>((client.await?, upstream.await?)) };
    let switched = tokio::time::timeout(SWITCH_LIMIT, switching).await;
    let Ok(Ok((client, upstream))) = switched else {
        exchange.completion.failed("the switch of protocols failed");
        return;
    };
    match copy_both(client, upstream, patterns, idle, &mut exchange).await {
        Ok(()) => exchange.completion.done(),
        Err(reason) => exchange.completion.failed(reason),
    }
}

async fn copy_both(
    client: Upgraded,
    upstream: Upgraded,
    patterns: Patterns,
    idle: Duration,
    exchange: &mut Exchange,
) -> Result<(), &'static str> {
    let (client_reads, client_writes) = tokio::io::split(TokioIo::new(client));
    let (upstream_reads, upstream_writes) = tokio::io::split(TokioIo::new(upstream));
    let activity = Rc::new(Cell::new(Instant::now()));
    let session = exchange.session().cloned();
    let is_revoked = || session.as_ref().is_some_and(|session| session.is_revoked());
    let bytes_in = exchange.completion.bytes_in().clone();
    let up = copy(client_reads, upstream_writes, &activity, |piece| {
        let bytes = piece.into_bytes();
        bytes_in.add(bytes.len());
        (!is_revoked()).then_some((bytes, false))
    });
    let mut scrubber = Scrubber::new(patterns);
    let completion = &mut exchange.completion;
    let down = copy(upstream_reads, client_writes, &activity, |piece| {
        let shown = match piece {
            Piece::Data(bytes) => scrubber.push(bytes),
            Piece::Pause => scrubber.release(),
            Piece::End => scrubber.finish(),
        };
        completion.add_bytes_out(shown.len());
        (!is_revoked()).then_some((shown, scrubber.can_release()))
    });
    tokio::select! {
        done = async { tokio::try_join!(up, down) } => match done {
            Ok(_) => Ok(()),
            Err(_) if is_revoked() => Err("session revoked"),
            Err(_) => Err("an upgraded connection broke off"),
        },
        () = silence(&activity, idle) => Err("an upgraded connection fell silent"),
    }
}

/// A piece of the data that one side sends.
enum Piece {
    Data(Bytes),
    /// Nothing for as long as bytes may be held back.
    Pause,
    End,
}

impl Piece {
    fn into_bytes(self) -> Bytes {
        match self {
            Self::Data(bytes) => bytes,
            Self::Pause | Self::End => Bytes::new(),
        }
    }
}

/// Copies in one direction, each piece through `pass`, which may refuse it, and
/// says whether it holds something back that a pause lets go.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    activity: &Cell<Instant>,
    mut pass: impl FnMut(Piece) -> Option<(Bytes, bool)>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut is_holding = false;
    loop {
        let read = from.read(&mut buffer);
        let read = if is_holding {
            tokio::time::timeout(HOLD, read).await.ok()
        } else {
            Some(read.await)
        };
        let piece = match read.transpose()? {
            None => Piece::Pause,
            Some(0) => Piece::End,
            Some(read) => Piece::Data(Bytes::copy_from_slice(&buffer[..read])),
        };
        let is_end = matches!(piece, Piece::End);
        if !matches!(piece, Piece::Pause) {
            activity.set(Instant::now());
        }
        let (shown, holds) = pass(piece).ok_or(io::ErrorKind::PermissionDenied)?;
        is_holding = holds;
        to.write_all(&shown).await?;
        to.flush().await?;
        if is_end {
            return to.shutdown().await;
        }
    }
}

async fn silence(activity: &Cell<Instant>, limit: Duration) {
    while activity.get().elapsed() < limit {
        sleep_until(activity.get() + limit).await;
    }
}
