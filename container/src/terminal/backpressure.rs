//! Backpressure: a count of bytes that a slow reader has not taken, and a wait
//! until there are few enough to produce more.

use tokio::sync::watch;

/// Most bytes that wait before no more are produced.
const MAX_WAITING: usize = 8 << 20;

/// The number of bytes that wait for a reader.
#[derive(Clone, Debug)]
pub(crate) struct ByteGate(watch::Sender<usize>);

impl ByteGate {
    pub(crate) fn new() -> Self {
        Self(watch::channel(0).0)
    }

    /// So many bytes more wait.
    pub(crate) fn add(&self, bytes: usize) {
        self.0.send_modify(|waiting| *waiting += bytes);
    }

    /// So many of them are done with.
    pub(crate) fn release(&self, bytes: usize) {
        self.0.send_modify(|waiting| *waiting -= bytes);
    }

    /// Waits until there is room for more.
    pub(crate) async fn capacity(&self) {
        self.wait_for(|bytes| bytes < MAX_WAITING).await;
    }

    /// Waits until nothing waits.
    pub(crate) async fn empty(&self) {
        self.wait_for(|bytes| bytes == 0).await;
    }

    async fn wait_for(&self, is_enough: impl Fn(usize) -> bool) {
        let mut waiting = self.0.subscribe();
        // The sender is here, so it cannot be closed.
        let _ = waiting.wait_for(|bytes| is_enough(*bytes)).await;
    }
}
