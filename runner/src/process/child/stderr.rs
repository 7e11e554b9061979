//! The end of a child's standard error.

use std::sync::{Arc, Mutex, PoisonError};

use drawbridge_io::tail::Tail;
use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Number of bytes that are kept: enough for a stack trace.
const KEPT_BYTES: usize = 4 * 1024;

/// Reads standard error to its end and keeps the last of it.
#[derive(Debug)]
pub(super) struct StderrTail {
    tail: Arc<Mutex<Tail>>,
    task: Option<JoinHandle<()>>,
}

impl StderrTail {
    pub(super) fn drain(stderr: Option<ChildStderr>) -> Self {
        let tail = Arc::new(Mutex::new(Tail::new(KEPT_BYTES)));
        let task = stderr.map(|stderr| tokio::spawn(keep_last(stderr, Arc::clone(&tail))));
        Self { tail, task }
    }

    /// The last lines, after the end of the stream or at the deadline.
    pub(super) async fn finish(&mut self, deadline: Instant) -> String {
        if let Some(mut task) = self.task.take()
            && tokio::time::timeout_at(deadline, &mut task).await.is_err()
        {
            task.abort();
        }
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&tail.to_vec()).trim().to_owned()
    }
}

async fn keep_last(mut stderr: ChildStderr, tail: Arc<Mutex<Tail>>) {
    let mut buffer = vec![0; KEPT_BYTES];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..length]);
        tracing::debug!(target: "agent", "{}", text.trim_end());
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.push(&buffer[..length]);
    }
}
