//! Events on their way to another part of this program, which may be slow.

use tokio::sync::mpsc;

use super::{Event, Reporter};
use crate::terminal::backpressure::ByteGate;

/// An event, and what it looks like to callers.
#[derive(Debug)]
pub(crate) struct RecordedEvent {
    pub(crate) event: Event,
    pub(crate) json: String,
}

/// A reporter, and what is reported with it.
pub(crate) fn channel() -> (Reporter, Listener) {
    let (queue, heard) = mpsc::unbounded_channel();
    let waiting = ByteGate::new();
    let listener = Listener {
        queue: heard,
        waiting: waiting.clone(),
        in_hand: 0,
    };
    (Reporter::Channel(EventSender { queue, waiting }), listener)
}

/// The end of a run.
#[derive(Clone, Debug)]
pub(crate) struct EventSender {
    queue: mpsc::UnboundedSender<RecordedEvent>,
    waiting: ByteGate,
}

impl EventSender {
    pub(super) fn send(&self, event: RecordedEvent) {
        let size = event.json.len();
        self.waiting.add(size);
        // A listener that has gone away has heard enough.
        if self.queue.send(event).is_err() {
            self.waiting.release(size);
        }
    }

    /// Waits until the listener has caught up far enough for more.
    pub(super) async fn capacity(&self) {
        tokio::select! {
            () = self.waiting.capacity() => {}
            () = self.queue.closed() => {}
        }
    }

    /// Waits until the listener is done with all events.
    pub(super) async fn flush(&self) {
        tokio::select! {
            () = self.waiting.empty() => {}
            () = self.queue.closed() => {}
        }
    }
}

/// The end of whoever listens.
#[derive(Debug)]
pub(crate) struct Listener {
    queue: mpsc::UnboundedReceiver<RecordedEvent>,
    waiting: ByteGate,
    /// Size of the event that was handed out last.
    in_hand: usize,
}

impl Listener {
    /// The next event; `None` at the end of the run. Who asks for the next one
    /// is done with the one before.
    pub(crate) async fn recv(&mut self) -> Option<RecordedEvent> {
        self.waiting.release(std::mem::take(&mut self.in_hand));
        let told = self.queue.recv().await?;
        self.in_hand = told.json.len();
        Some(told)
    }

    /// The last answer of a run, or what kept it from one.
    pub(crate) async fn last_answer(mut self) -> Option<String> {
        let mut answer = None;
        while let Some(told) = self.recv().await {
            if let Event::Result(record) = told.event {
                answer = record.result.or(record.error);
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    fn warning(size: usize) -> Event {
        Event::Warning {
            message: "x".repeat(size),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_listener_holds_the_run_up_and_one_that_has_gone_does_not() {
        let (reporter, mut listener) = channel();
        reporter.capacity().await;
        reporter.report(warning(5 << 20));
        reporter.capacity().await;
        reporter.report(warning(5 << 20));
        assert!(timeout(SOON, reporter.capacity()).await.is_err());
        listener.recv().await.unwrap();
        // It has the event, and is not done with it.
        assert!(timeout(SOON, reporter.capacity()).await.is_err());
        listener.recv().await.unwrap();
        reporter.capacity().await;
        assert!(timeout(SOON, reporter.persisted()).await.is_err());
        assert!(timeout(SOON, listener.recv()).await.is_err());
        reporter.persisted().await;
        reporter.report(warning(9 << 20));
        drop(listener);
        reporter.capacity().await;
        reporter.persisted().await;
    }
}
