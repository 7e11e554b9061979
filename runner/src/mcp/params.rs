//! Parameters of the tools. The comments are what the model reads about them.

use drawbridge_shared::protocol;
use rmcp::schemars::{self, JsonSchema};
use serde::Deserialize;

use super::schedule::ScheduleType;

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct MessageParams {
    /// The message text to send.
    pub(super) text: String,
    /// Your role or identity name, such as "Researcher". When set, the message
    /// may appear under that name.
    pub(super) sender: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ScheduleParams {
    /// What the agent should do when the task runs. For an isolated task,
    /// include all context it needs.
    pub(super) prompt: String,
    /// cron: recurring at set times. interval: recurring every N milliseconds.
    /// once: one time.
    pub(super) schedule_type: ScheduleType,
    /// cron: "0 9 * * *". interval: milliseconds, such as "300000". once: local
    /// time without a zone, such as "2026-02-01T15:30:00".
    pub(super) schedule_value: String,
    /// group: runs with the chat's history. isolated: runs in a fresh session.
    #[serde(default)]
    pub(super) context_mode: ContextMode,
    /// Chat to schedule the task for; only the main group may name another
    /// than its own.
    pub(super) target_group_jid: Option<String>,
    /// Shell script that runs first. Its last line is JSON:
    /// {"wakeAgent": true or false, "data": ...}; the agent is woken only on
    /// true.
    pub(super) script: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ContextMode {
    #[default]
    Group,
    Isolated,
}

impl From<ContextMode> for protocol::ContextMode {
    fn from(mode: ContextMode) -> Self {
        match mode {
            ContextMode::Group => Self::Group,
            ContextMode::Isolated => Self::Isolated,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct TaskParams {
    /// The task's id.
    pub(super) task_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct UpdateParams {
    /// The task's id.
    pub(super) task_id: String,
    /// New prompt.
    pub(super) prompt: Option<String>,
    /// New kind of schedule; needs schedule_value too.
    pub(super) schedule_type: Option<ScheduleType>,
    /// New value of the schedule.
    pub(super) schedule_value: Option<String>,
    /// New script; empty removes it.
    pub(super) script: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct GroupParams {
    /// The chat's id, such as "120363336345536173@g.us".
    pub(super) jid: String,
    /// Display name of the group.
    pub(super) name: String,
    /// Folder name: letters, digits, "_" and "-".
    pub(super) folder: String,
    /// Word that wakes the agent, such as "@Andy".
    pub(super) trigger: String,
    /// Whether messages must start with the trigger word.
    #[serde(rename = "requiresTrigger")]
    pub(super) requires_trigger: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct FileParams {
    /// Path of the file, below the group's folder.
    pub(super) path: String,
    /// Text to send with it.
    pub(super) text: Option<String>,
    /// Name to show instead of the file's own.
    pub(super) filename: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct QuestionParams {
    /// The question.
    pub(super) question: String,
    /// Answers to choose from; empty for a free answer.
    #[serde(default)]
    pub(super) options: Vec<String>,
    /// How long to wait for the answer; 300 seconds when absent.
    pub(super) timeout_seconds: Option<u64>,
}
