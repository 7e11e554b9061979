//! The run's document on standard input.

use std::io::Read;
use std::time::Duration;

use drawbridge_shared::ids::Nonce;
use drawbridge_shared::json;
use drawbridge_shared::protocol::{MAX_INPUT_BYTES, RunInput};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Longest time for the host to write the document and close standard input.
const DEADLINE: Duration = Duration::from_secs(60);

/// The prefix of a scheduled task's prompt, as in NanoClaw.
const SCHEDULED: &str = "[SCHEDULED TASK - The following message was sent automatically and is \
                         not coming directly from the user or group.]\n\n";

/// Why there is no usable document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("standard input was not closed within {} seconds", DEADLINE.as_secs())]
    Deadline,
    #[error("standard input is empty")]
    Empty,
    #[error("more than {MAX_INPUT_BYTES} bytes")]
    TooLarge,
    #[error("standard input cannot be read: {0}")]
    Read(std::io::Error),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// A document that cannot be used.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) error: InputError,
    /// The markers' nonce, if at least that can be found: the launcher reads no
    /// other markers.
    pub(crate) nonce: Option<Nonce>,
}

impl From<InputError> for Unreadable {
    fn from(error: InputError) -> Self {
        Self { error, nonce: None }
    }
}

/// Reads standard input to its end and parses it.
pub(crate) async fn read() -> Result<RunInput, Unreadable> {
    let (sender, receiver) = oneshot::channel();
    // A thread of its own: a read that never returns must not hold up the end
    // of the program, as one in the runtime's pool would.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let limit = MAX_INPUT_BYTES as u64 + 1;
        let read = std::io::stdin().lock().take(limit).read_to_end(&mut bytes);
        // Nobody listens any more when the deadline has passed.
        let _ = sender.send(read.map(|_| bytes));
    });
    let bytes = match timeout(DEADLINE, receiver).await {
        Ok(Ok(read)) => read.map_err(InputError::Read)?,
        Ok(Err(_)) | Err(_) => return Err(InputError::Deadline.into()),
    };
    parse(&bytes).map_err(|error| Unreadable {
        error,
        nonce: find_nonce(&bytes),
    })
}

fn parse(bytes: &[u8]) -> Result<RunInput, InputError> {
    if bytes.len() > MAX_INPUT_BYTES {
        return Err(InputError::TooLarge);
    }
    if bytes.trim_ascii().is_empty() {
        return Err(InputError::Empty);
    }
    Ok(json::from_slice_lossy(bytes)?)
}

fn find_nonce(bytes: &[u8]) -> Option<Nonce> {
    let document: serde_json::Value = json::from_slice_lossy(bytes).ok()?;
    document["drawbridge"]["nonce"].as_str()?.parse().ok()
}

/// The first user turn, before waiting messages are joined to it.
pub(crate) fn prompt(input: &RunInput) -> String {
    let prefix = if input.is_scheduled_task {
        SCHEDULED
    } else {
        ""
    };
    format!("{prefix}{}", input.prompt)
}
