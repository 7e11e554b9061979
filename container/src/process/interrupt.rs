//! Requests to stop a command, or one of its runs.

use std::io;

use drawbridge_io::signals::Signals;
use tokio_util::sync::CancellationToken;

/// Requests to stop, from the moment this is made.
#[derive(Debug)]
pub(crate) enum Interrupts {
    /// Signals to this process.
    Signals(Signals),
    /// A cancellation by another part of this program, which has the signals.
    Token(CancellationToken),
}

impl Interrupts {
    /// Requests by the token if there is one, else by signals.
    pub(crate) fn watch(token: Option<CancellationToken>) -> io::Result<Self> {
        Ok(match token {
            Some(token) => Self::Token(token),
            None => Self::Signals(Signals::to_stop()?),
        })
    }

    /// Waits for the next request.
    pub(crate) async fn recv(&mut self) {
        match self {
            Self::Signals(signals) => {
                signals.next().await;
            }
            Self::Token(token) => token.cancelled().await,
        }
    }
}
