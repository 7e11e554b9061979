//! What asks a command, or one of its runs, to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Requests to stop, from the moment this is made.
#[derive(Debug)]
pub(crate) enum Interrupts {
    /// INT, TERM and HUP to this process.
    Signals {
        interrupt: Signal,
        terminate: Signal,
        hang_up: Signal,
    },
    /// A word from another part of this program, which has the signals.
    Word(CancellationToken),
}

impl Interrupts {
    /// Waits for the word, if there is to be one, else for the signals.
    pub(crate) fn watch(word: Option<CancellationToken>) -> io::Result<Self> {
        if let Some(token) = word {
            return Ok(Self::Word(token));
        }
        Ok(Self::Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next of them.
    pub(crate) async fn recv(&mut self) {
        match self {
            Self::Signals {
                interrupt,
                terminate,
                hang_up,
            } => tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            },
            Self::Word(token) => token.cancelled().await,
        }
    }
}
