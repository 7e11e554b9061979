//! Messages from the host to a running agent.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One file in `input/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HostMessage {
    /// A user's message for the conversation.
    Message {
        /// The text, as the user wrote it.
        text: String,
    },
}

/// A name for a new message file: `<milliseconds>-<sequence>.json`.
///
/// Readers take files in the order of their names. Digits of fixed width keep
/// files of one millisecond in the order in which this process named them.
#[must_use]
pub fn message_file_name() -> String {
    static SEQUENCE: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = now.map_or(0, |elapsed| elapsed.as_millis());
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    format!("{millis:013}-{sequence:010}-{}.json", std::process::id())
}
