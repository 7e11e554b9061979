//! The document that the host writes to the runner's standard input.

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
    /// Our launcher's additions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawbridge: Option<RunOptions>,
}

/// Options of our launcher for our runner, beyond NanoClaw's fields.
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
    /// Address and token for the credential proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyAccess>,
    /// Folders to use instead of the container's fixed paths; the host runtime
    /// needs them, a container does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<RunPaths>,
    /// Whether to write records of kind [`RecordKind::Progress`] too.
    ///
    /// [`RecordKind::Progress`]: super::RecordKind::Progress
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub progress: bool,
    /// Seconds without activity after which a working agent counts as stuck. A
    /// tool in flight that has a longer limit of its own extends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_after_seconds: Option<u64>,
    /// Limits on old and large transcripts; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcripts: Option<TranscriptLimits>,
    /// Folders the agent may use in addition to those of [`RunPaths::extra`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_folders: Vec<PathBuf>,
    /// Files that must be at some paths before the agent is started. The host
    /// has checked these files by name, and a name can be given to another file
    /// before it is mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounted_files: Vec<MountedFile>,
}

/// A file or folder of the host that has to be found at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountedFile {
    /// Where it has to be, without a link on the way.
    pub path: PathBuf,
    /// Number of its file system's device.
    pub device: u64,
    /// Number of its inode there.
    pub inode: u64,
}

/// When transcripts are put away. The one in use is never touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TranscriptLimits {
    /// Transcripts that were not written to for this many days are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_days: Option<u32>,
    /// A conversation whose transcript is larger, in bytes, is archived and
    /// started anew instead of resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// Which agent to drive, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentOptions {
    /// The agent.
    pub kind: AgentKind,
    /// Program and arguments: required for [`AgentKind::Command`] and
    /// [`AgentKind::Acp`], and for the others the program to start instead of the usual one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments behind those that the runner gives the agent; see
    /// [`check_agent_args`](super::check_agent_args).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_args: Vec<String>,
    /// Model to ask for; the agent's own default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Most model calls within one turn of the `builtin` agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// The model's reasoning effort, in the agent's own terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<String>,
    /// Tools the agent may use: the usual list when absent, none when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_tools: Option<Vec<String>>,
    /// Tools the agent may not use; they win over the allowed ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disallowed_tools: Vec<String>,
}

impl AgentOptions {
    /// An agent with its usual settings.
    #[must_use]
    pub const fn new(kind: AgentKind) -> Self {
        Self {
            kind,
            command: Vec::new(),
            extra_args: Vec::new(),
            model: None,
            max_turns: None,
            effort: None,
            allowed_tools: None,
            disallowed_tools: Vec::new(),
        }
    }
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
    /// Codex, over its app-server protocol.
    Codex,
    /// opencode, over the Agent Client Protocol.
    Opencode,
    /// Gemini CLI, over the Agent Client Protocol.
    Gemini,
    /// Any program that speaks the Agent Client Protocol.
    Acp,
}

impl AgentKind {
    /// All agents, in the order they are offered.
    pub const ALL: [Self; 7] = [
        Self::Claude,
        Self::Builtin,
        Self::Codex,
        Self::Opencode,
        Self::Gemini,
        Self::Acp,
        Self::Command,
    ];

    /// The agent's name on command lines and in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Command => "command",
            Self::Builtin => "builtin",
            Self::Codex => "codex",
            Self::Opencode => "opencode",
            Self::Gemini => "gemini",
            Self::Acp => "acp",
        }
    }
}

/// The agent's access to the credential proxy.
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunPaths {
    /// The agent's working directory; `/workspace/group` in a container.
    pub workspace: PathBuf,
    /// The IPC folder; `/workspace/ipc` in a container.
    pub ipc: PathBuf,
    /// The agent's home; `$HOME` in a container.
    pub home: PathBuf,
    /// Folder shared by all groups, whose `CLAUDE.md` is read by the agents of
    /// groups that are not the main one; `/workspace/global` in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<PathBuf>,
    /// Folder whose subfolders the agent may use too; `/workspace/extra` in a
    /// container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<PathBuf>,
    /// Folder of skills to give to the agent; `/workspace/skills` in a
    /// container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skills: Option<PathBuf>,
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
    fn the_session_token_is_not_printed() {
        let access = ProxyAccess {
            endpoint: ProxyEndpoint::Unix("/run/x.sock".into()),
            token: "dbs_secret".into(),
            auth_mode: AuthMode::ApiKey,
        };
        assert!(!format!("{access:?}").contains("secret"));
    }
}
