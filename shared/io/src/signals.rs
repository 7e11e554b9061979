//! Signals to this process, as a stream.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A listener for some kinds of signal, from the moment it is made.
#[derive(Debug)]
pub struct Signals(Vec<(SignalKind, Signal)>);

impl Signals {
    /// A listener for the signals that ask a program to stop: TERM, INT and HUP.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn to_stop() -> io::Result<Self> {
        Self::listen(&[
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
        ])
    }

    /// A listener for these kinds of signal.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn listen(kinds: &[SignalKind]) -> io::Result<Self> {
        let listeners = kinds.iter().map(|kind| Ok((*kind, signal(*kind)?)));
        listeners.collect::<io::Result<_>>().map(Self)
    }

    /// Waits for the next signal. Dropping the future of a wait loses none.
    pub async fn next(&mut self) -> SignalKind {
        poll_fn(|context| {
            for (kind, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(*kind);
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal as Sent, getpid, kill_process};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn signals_arrive_with_their_kind() {
        let mut signals =
            Signals::listen(&[SignalKind::user_defined1(), SignalKind::user_defined2()]).unwrap();
        for (sent, kind) in [
            (Sent::USR2, SignalKind::user_defined2()),
            (Sent::USR1, SignalKind::user_defined1()),
        ] {
            kill_process(getpid(), sent).unwrap();
            let received = timeout(Duration::from_secs(10), signals.next()).await;
            assert_eq!(received.unwrap(), kind);
        }
    }
}
