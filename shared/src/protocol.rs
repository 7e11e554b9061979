//! The two documents of a run: what the host writes to the runner's standard
//! input, and the records the runner writes back.
//!
//! Field names and meanings are NanoClaw's, so that either side can be replaced
//! by its counterpart there. Everything of ours is optional: on input it is the
//! `drawbridge` object, on output the fields after `error`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::{Nonce, RunId};

/// Largest run input document, in bytes.
pub const MAX_INPUT_BYTES: usize = 32 * 1024 * 1024;

/// The run input: one JSON object, after which standard input is closed.
///
/// Fields that are not known here are ignored, as NanoClaw does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunInput {
    /// The first user turn.
    pub prompt: String,
    /// Conversation to resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Folder name of the group the run belongs to.
    pub group_folder: String,
    /// Chat that the agent's messages go to by default.
    pub chat_jid: String,
    /// Whether the group is the privileged one.
    pub is_main: bool,
    /// Whether a scheduler started the run, not a person.
    #[serde(default)]
    pub is_scheduled_task: bool,
    /// Name of the speaker in archived transcripts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assistant_name: Option<String>,
    /// Shell gate of a scheduled task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// What our launcher adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawbridge: Option<RunOptions>,
}

/// What our launcher tells our runner beyond NanoClaw's fields.
///
/// An unknown field here is an error: launcher and runner are then of versions
/// that do not fit, and an option that is silently ignored could be a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunOptions {
    /// Id of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Nonce that the markers carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Nonce>,
    /// The agent to drive and its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentOptions>,
    /// How to reach the credential proxy, and as whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyAccess>,
    /// Folders to use instead of the container's fixed paths; the host runtime
    /// needs them, a container does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<RunPaths>,
}

/// Which agent to drive, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentOptions {
    /// The agent.
    pub kind: AgentKind,
    /// Program and arguments: required for [`AgentKind::Command`], and for the
    /// others the program to start instead of the usual one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Model to ask for; the agent's own default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Most model calls within one turn of the `builtin` agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
}

/// The agents the runner can drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentKind {
    /// Claude Code, over its stream-json control protocol.
    Claude,
    /// Any program: prompt on standard input, answer on standard output.
    Command,
    /// The small agent inside the runner itself.
    Builtin,
}

impl AgentKind {
    /// All agents, in the order they are offered.
    pub const ALL: [Self; 3] = [Self::Claude, Self::Builtin, Self::Command];

    /// The agent's name on command lines and in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Command => "command",
            Self::Builtin => "builtin",
        }
    }
}

/// How the agent reaches the credential proxy.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyAccess {
    /// Where the proxy listens, as seen by the runner.
    pub endpoint: ProxyEndpoint,
    /// Token of this run's session. It opens the proxy and nothing else, and
    /// dies with the run; still it is kept out of logs.
    pub token: String,
    /// Which kind of placeholder the agent is to send.
    pub auth_mode: AuthMode,
}

impl std::fmt::Debug for ProxyAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyAccess")
            .field("endpoint", &self.endpoint)
            .field("token", &"[session token]")
            .field("auth_mode", &self.auth_mode)
            .finish()
    }
}

/// Where the proxy listens, as seen by the runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyEndpoint {
    /// A unix socket; the runner offers it to the agent on loopback.
    Unix(PathBuf),
    /// A base URL such as `http://host.docker.internal:3001`.
    Url(String),
}

/// Which credential the proxy injects for the Anthropic API, and thus which
/// placeholder makes the agent send the matching header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMode {
    /// `x-api-key`; NanoClaw's `api-key` mode.
    ApiKey,
    /// `Authorization: Bearer`; NanoClaw's `oauth` mode.
    Oauth,
}

impl AuthMode {
    /// The mode's name, as NanoClaw spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApiKey => "api-key",
            Self::Oauth => "oauth",
        }
    }
}

/// The folders of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunPaths {
    /// The agent's working directory; `/workspace/group` in a container.
    pub workspace: PathBuf,
    /// The IPC folder; `/workspace/ipc` in a container.
    pub ipc: PathBuf,
    /// The agent's home; `$HOME` in a container.
    pub home: PathBuf,
}

/// One output record of the runner.
///
/// NanoClaw's parser reads the first four fields. `result` is always present,
/// null included, because it tests for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// Whether this is an answer or a failure.
    pub status: RecordStatus,
    /// The agent's answer; empty answers are null.
    pub result: Option<String>,
    /// Conversation to resume next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_session_id: Option<String>,
    /// What failed; only with [`RecordStatus::Error`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
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

/// What kind of failure an error record reports.
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoclaws_document_is_read_and_unknown_fields_are_ignored() {
        let input: RunInput = serde_json::from_str(
            r#"{"prompt":"hi","groupFolder":"main","chatJid":"1@g.us","isMain":true,
                "assistantName":"Andy","secrets":{"x":1}}"#,
        )
        .unwrap();
        assert_eq!(input.assistant_name.as_deref(), Some("Andy"));
        assert!(!input.is_scheduled_task);
    }

    #[test]
    fn an_unknown_option_of_ours_is_an_error() {
        let error = serde_json::from_str::<RunInput>(
            r#"{"prompt":"","groupFolder":"a","chatJid":"b","isMain":false,
                "drawbridge":{"sandbox":"off"}}"#,
        )
        .unwrap_err();
        assert!(
            error.to_string().contains("unknown field `sandbox`"),
            "{error}"
        );
    }

    #[test]
    fn records_hold_nanoclaws_fields_and_no_others() {
        let records = [
            RunRecord::answer(Some("hi".into()), Some("s1".into())),
            RunRecord::answer(Some(String::new()), None),
            RunRecord::failure("broke", None),
        ];
        let lines: Vec<_> = records
            .iter()
            .map(|r| serde_json::to_string(r).unwrap())
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        {"status":"success","result":"hi","newSessionId":"s1"}
        {"status":"success","result":null}
        {"status":"error","result":null,"error":"broke"}
        "#);
    }

    #[test]
    fn the_session_token_is_not_printed() {
        let access = ProxyAccess {
            endpoint: ProxyEndpoint::Unix("/run/x.sock".into()),
            token: "dbs_secret".into(),
            auth_mode: AuthMode::ApiKey,
        };
        assert!(!format!("{access:?}").contains("secret"));
    }
}
