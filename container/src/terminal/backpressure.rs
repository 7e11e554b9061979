//! What waits for somebody who is slow, so that no more is made of it.

use tokio::sync::watch;

/// What may wait before no more is made, in bytes.
const MAX_WAITING: usize = 8 << 20;

/// How many bytes wait.
#[derive(Clone, Debug)]
pub(crate) struct Backlog(watch::Sender<usize>);

impl Backlog {
    pub(crate) fn new() -> Self {
        Self(watch::channel(0).0)
    }

    /// So many bytes more wait.
    pub(crate) fn more(&self, bytes: usize) {
        self.0.send_modify(|waiting| *waiting += bytes);
    }

    /// So many of them are done with.
    pub(crate) fn less(&self, bytes: usize) {
        self.0.send_modify(|waiting| *waiting -= bytes);
    }

    /// Waits until there is room for more.
    pub(crate) async fn room(&self) {
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
