//! Messages from the host to a running agent.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One file in `input/`.
///
/// `message` is NanoClaw's, the others are ours. A type that is not known here
/// is quarantined, not lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HostMessage {
    /// A user's message for the conversation.
    Message {
        /// The text, as the user wrote it.
        text: String,
        /// Files that came with it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<Attachment>,
    },
    /// The current turn stops; the conversation stays.
    Interrupt,
    /// The current turn stops and the run ends; messages that wait stay on disk.
    Cancel,
    /// From the next turn on another model answers.
    SetModel {
        /// The model, in the agent's own words.
        model: String,
    },
    /// The conversation is summarised to shorten it.
    Compact {
        /// Parts that the summary should keep.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instructions: Option<String>,
    },
    /// The conversation ends and a new one is begun with the next message.
    Clear,
}

/// A file that came with a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Where it is, relative to the group's folder.
    pub path: PathBuf,
    /// Its name, as the user knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl HostMessage {
    /// A message of text only.
    #[must_use]
    pub const fn text(text: String) -> Self {
        Self::Message {
            text,
            attachments: Vec::new(),
        }
    }
}

/// A name for a new message file: `<milliseconds>-<sequence>.json`.
///
/// Readers take files in the order of their names. Digits of fixed width keep
/// files of one millisecond in the order in which this process named them, and
/// a clock that is set back does not put a message before an earlier one.
#[must_use]
pub fn message_file_name() -> String {
    name_at(SystemTime::now())
}

fn name_at(now: SystemTime) -> String {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    static SEQUENCE: AtomicU32 = AtomicU32::new(0);
    let elapsed = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let millis = now.max(LATEST.fetch_max(now, Ordering::Relaxed));
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    format!("{millis:013}-{sequence:010}-{}.json", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_stay_in_order_when_the_clock_is_set_back() {
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        let names = [now, now - hour, now + hour, UNIX_EPOCH - hour, now].map(name_at);
        assert!(names.is_sorted(), "{names:?}");
    }
}
