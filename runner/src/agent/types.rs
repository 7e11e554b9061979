//! The terms in which the supervisor and an agent's driver talk.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use drawbridge_shared::env;
use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::protocol::{
    AgentOptions, AuthMode, ErrorKind, RunRecord, TranscriptLimits, Usage,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::host_tools::HostTools;
use crate::host::message::{MessageId, UserMessage};
use crate::self_command::SelfCommand;

/// An agent's configuration.
#[derive(Clone, Debug)]
pub(crate) struct AgentSpec {
    /// Which agent, and its settings.
    pub(crate) options: AgentOptions,
    /// Conversation to go on with.
    pub(crate) resume: Option<AgentSessionId>,
    /// The agent's working directory.
    pub(crate) workspace: PathBuf,
    /// The agent's home; sessions are kept below it.
    pub(crate) home: PathBuf,
    /// Access to the model; `None` leaves it to the environment as it is.
    pub(crate) model_access: Option<ModelAccess>,
    /// Access to the host.
    pub(crate) host_tools: HostTools,
    /// The command that starts this program again.
    pub(crate) self_command: SelfCommand,
    /// Text that the agent's instructions end with.
    pub(crate) append_system_prompt: Option<String>,
    /// Folders besides the workspace.
    pub(crate) extra_folders: Vec<PathBuf>,
    /// The agent's name in archived transcripts.
    pub(crate) assistant_name: Option<String>,
    /// Folder of skills, to be copied into the agent's home.
    pub(crate) skills: Option<PathBuf>,
    /// When transcripts are put away.
    pub(crate) transcripts: TranscriptLimits,
}

impl AgentSpec {
    /// Variables to set in the agent's environment, on top of the runner's own.
    pub(crate) fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut set = vec![("HOME".into(), self.home.clone().into())];
        if let Some(access) = &self.model_access {
            let key = match access.auth_mode {
                AuthMode::ApiKey => env::ANTHROPIC_API_KEY,
                AuthMode::Oauth => env::CLAUDE_CODE_OAUTH_TOKEN,
            };
            set.push((
                env::ANTHROPIC_BASE_URL.into(),
                access.base_url.clone().into(),
            ));
            set.push((key.into(), access.token.clone().into()));
        }
        set
    }

    /// Variables of the runner's environment that the agent must not see: a
    /// second credential would win over the placeholder.
    pub(crate) fn removed_environment(&self) -> Vec<&'static str> {
        match &self.model_access {
            None => vec![],
            Some(access) => match access.auth_mode {
                AuthMode::ApiKey => vec![env::CLAUDE_CODE_OAUTH_TOKEN, env::ANTHROPIC_AUTH_TOKEN],
                AuthMode::Oauth => vec![env::ANTHROPIC_API_KEY, env::ANTHROPIC_AUTH_TOKEN],
            },
        }
    }
}

/// Access to the model: always through the credential proxy.
#[derive(Clone)]
pub(crate) struct ModelAccess {
    /// Base URL, without a slash at its end.
    pub(crate) base_url: String,
    /// The value to send as the key: the session token.
    pub(crate) token: String,
    /// As which kind of key to send it.
    pub(crate) auth_mode: AuthMode,
}

impl std::fmt::Debug for ModelAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelAccess")
            .field("base_url", &self.base_url)
            .field("token", &"[session token]")
            .field("auth_mode", &self.auth_mode)
            .finish()
    }
}

/// A command of the supervisor to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AgentCommand {
    /// A message for the conversation; it may come while the agent works.
    Send(UserMessage),
    /// Stop the current turn, keep the conversation.
    Interrupt,
    /// Summarise the conversation, with instructions what to keep. Only for
    /// agents that can; it ends with `Idle` in any case.
    Compact(Option<String>),
    /// No message will follow: finish what was sent, then end.
    Close,
}

/// An event that an agent reports to the supervisor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AgentEvent {
    /// The conversation's id; a later one replaces it.
    Session(AgentSessionId),
    /// The resumed conversation does not exist; a new one was started instead.
    SessionLost(AgentSessionId),
    /// The agent's name and version, for the records.
    Version(String),
    /// The agent has this message for good: it is in the conversation.
    Received(MessageId),
    /// A turn has begun.
    Busy,
    /// No further turn is pending.
    Idle,
    /// Something happens; the agent is not stuck.
    Activity(Activity),
    /// A turn has ended.
    TurnEnd(TurnEnd),
    /// Worth a line in the log.
    Warning(String),
    /// A notice for a person, with the next answer.
    Notice(String),
}

/// An agent's current action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Text on the way to its answer.
    Text(String),
    /// It began to use a tool.
    ToolStart {
        /// The call's id.
        id: String,
        /// The tool's name.
        name: String,
        /// The tool's own time limit, when it has one.
        timeout: Option<Duration>,
    },
    /// The tool is done.
    ToolEnd {
        /// The call's id.
        id: String,
    },
    /// A model call failed and is tried again.
    Retry(String),
    /// The conversation is being compacted.
    Compaction,
    /// Anything else.
    Other,
}

/// The end of a turn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TurnEnd {
    pub(crate) outcome: Outcome,
    /// Tokens of this turn.
    pub(crate) usage: Option<Usage>,
    /// Cost of this turn in US dollars.
    pub(crate) cost_usd: Option<f64>,
    /// Model calls in this turn.
    pub(crate) model_calls: Option<u32>,
}

impl From<Outcome> for TurnEnd {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            usage: None,
            cost_usd: None,
            model_calls: None,
        }
    }
}

/// The outcome of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With an answer, or with none.
    Answer(Option<String>),
    /// It was interrupted.
    Interrupted,
    /// It failed; the conversation may go on.
    Failed(Failure),
}

/// A failure, described for the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    /// The pause that the model API asks for.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    pub(crate) fn crash(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Crash, message)
    }

    pub(crate) fn stopped() -> Self {
        Self::new(ErrorKind::Stopped, "the run was stopped")
    }

    /// The record that reports it.
    pub(crate) fn record(self, session: Option<String>) -> RunRecord {
        let mut record = RunRecord::failure(self.message, session);
        record.details.error_kind = Some(self.kind);
        let millis = |pause: Duration| u64::try_from(pause.as_millis()).ok();
        record.details.retry_after_ms = self.retry_after.and_then(millis);
        record
    }
}

/// The agent's end of the link to the supervisor.
#[derive(Debug)]
pub(crate) struct AgentLink {
    /// Commands. `None` means that the supervisor is gone: stop.
    pub(crate) commands: mpsc::Receiver<AgentCommand>,
    /// Events for the supervisor.
    pub(crate) events: mpsc::Sender<AgentEvent>,
    /// Cancelled when the agent must stop now: interrupt, end of input, TERM,
    /// KILL, each with a deadline.
    pub(crate) stop: CancellationToken,
}

impl AgentLink {
    /// Sends an event to the supervisor, which stops receiving only when the
    /// run is over.
    pub(crate) async fn send(&self, event: AgentEvent) {
        let _ = self.events.send(event).await;
    }

    /// Waits until the supervisor has taken the last event, and so has done all
    /// that follows from those before it.
    pub(crate) async fn flush(&self) {
        let _ = self.events.reserve_many(self.events.max_capacity()).await;
    }
}
