//! Records that the runner writes to its standard output.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::AgentKind;

/// One output record of the runner.
///
/// NanoClaw's parser reads the first four fields. `result` is always present,
/// null included, because it tests for that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// Whether this is an answer or a failure.
    pub status: RecordStatus,
    /// The agent's answer; empty answers are null.
    pub result: Option<String>,
    /// Conversation to resume next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_session_id: Option<String>,
    /// The failure; only with [`RecordStatus::Error`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Fields beyond NanoClaw's records.
    #[serde(flatten)]
    pub details: RecordDetails,
}

/// The fields of a record that are ours. A host that did not write the
/// `drawbridge` object does not get them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecordDetails {
    /// The kind of record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<RecordKind>,
    /// The kind of failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<ErrorKind>,
    /// The pause that the model API asks for, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Tokens used by the turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Cost of the turn in US dollars, as the agent reckons it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Model calls of the turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<u32>,
    /// Duration of the turn, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentKind>,
    /// The agent's version, as it reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// A notice for a person in addition to the answer, for example that the
    /// earlier conversation is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
    /// Copies of the files that the answer names, on the launcher's machine.
    /// The launcher sets it; a runner's value here is ignored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
    /// The event; only with [`RecordKind::Progress`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    /// A turn's answer, or the end of a turn without one.
    Answer,
    /// A failure.
    Error,
    /// A turn that was interrupted.
    Interrupted,
    /// The conversation rests; the record holds its session id.
    SessionUpdate,
    /// The conversation was cleared.
    Cleared,
    /// The script of a scheduled task saw no need to wake the agent.
    Skipped,
    /// Something happened on the way to the answer.
    Progress,
}

/// Something that happened on the way to an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Progress {
    /// The agent is about to be started and to get its first message; from here
    /// on it may act. The agent can neither hold this back nor write it.
    Started,
    /// The conversation has its id; the record holds it.
    Session,
    /// Text of the agent.
    Text {
        /// The text; long texts are cut.
        text: String,
    },
    /// The agent began to use a tool.
    ToolStart {
        /// The call's id.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// The tool is done.
    ToolEnd {
        /// The call's id.
        id: String,
    },
    /// A model call failed and is tried again.
    Retry {
        /// The error of the failed call.
        error: String,
    },
    /// The conversation is being compacted.
    Compaction,
}

/// Whether a record is an answer or a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordStatus {
    /// The turn ended well; `result` is the answer, or null.
    Success,
    /// Something failed; `error` says what.
    Error,
}

/// The kind of failure of an error record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The run input, or a configuration in it, is wrong.
    Input,
    /// The credential was refused, or there is none.
    Auth,
    /// Too many requests or tokens.
    RateLimit,
    /// The model's provider is overloaded or failing.
    Overload,
    /// A budget or turn limit is used up.
    Budget,
    /// The conversation is too long for the model.
    Context,
    /// The agent could not start.
    StartUp,
    /// The agent ended in the middle of its work.
    Crash,
    /// A time limit ended the work.
    Timeout,
    /// The run was asked to stop.
    Stopped,
    /// Another failure of the model API.
    Api,
}

/// Tokens that were used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Tokens read, without those from a cache.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Tokens read from a cache.
    pub cache_read_tokens: u64,
    /// Tokens written to a cache.
    pub cache_write_tokens: u64,
}

impl RunRecord {
    /// The record of an answer; an empty one becomes null.
    #[must_use]
    pub fn answer(result: Option<String>, session: Option<String>) -> Self {
        Self {
            status: RecordStatus::Success,
            result: result.filter(|text| !text.is_empty()),
            new_session_id: session,
            error: None,
            details: RecordDetails {
                kind: Some(RecordKind::Answer),
                ..RecordDetails::default()
            },
        }
    }

    /// The record of a failure.
    #[must_use]
    pub fn failure(error: impl Into<String>, session: Option<String>) -> Self {
        Self {
            status: RecordStatus::Error,
            result: None,
            new_session_id: session,
            error: Some(error.into()),
            details: RecordDetails {
                kind: Some(RecordKind::Error),
                ..RecordDetails::default()
            },
        }
    }

    /// The record with the fields that NanoClaw's have, and no others.
    #[must_use]
    pub fn plain(self) -> Self {
        Self {
            details: RecordDetails::default(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_records_hold_nanoclaws_fields_and_no_others() {
        let records = [
            RunRecord::answer(Some("hi".into()), Some("s1".into())),
            RunRecord::answer(Some(String::new()), None),
            RunRecord::failure("broke", None),
        ];
        let lines: Vec<_> = records
            .iter()
            .map(|r| serde_json::to_string(&r.clone().plain()).unwrap())
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        {"status":"success","result":"hi","newSessionId":"s1"}
        {"status":"success","result":null}
        {"status":"error","result":null,"error":"broke"}
        "#);
    }

    #[test]
    fn details_stand_beside_nanoclaws_fields() {
        let mut record = RunRecord::failure("broke", None);
        record.details.error_kind = Some(ErrorKind::RateLimit);
        record.details.cost_usd = Some(0.25);
        record.details.progress = Some(Progress::ToolEnd { id: "t".into() });
        let line = serde_json::to_string(&record).unwrap();
        insta::assert_snapshot!(line, @r#"{"status":"error","result":null,"error":"broke","kind":"error","errorKind":"rate-limit","costUsd":0.25,"progress":{"type":"tool-end","id":"t"}}"#);
        assert_eq!(serde_json::from_str::<RunRecord>(&line).unwrap(), record);
    }
}
