//! What an agent asks of the host: one JSON file per request.
//!
//! Names and fields are NanoClaw's; `file` and `ask_user` are ours. What a
//! request says about its sender (`groupFolder`, `isMain`, `createdBy`) is not
//! even read: the folder it lies in says who it is from.

use drawbridge_shared::json::from_slice_lossy;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// A request, as it is passed on to who answers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub(crate) enum Request {
    /// A text for a chat.
    Message {
        chat_jid: String,
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sender: Option<String>,
    },
    /// A file of the group's folder for a chat.
    File {
        chat_jid: String,
        /// Relative to the group's folder, or as the agent sees it.
        path: String,
        #[serde(default)]
        filename: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// A question that the agent waits with.
    AskUser {
        chat_jid: String,
        question: String,
        #[serde(default)]
        options: Vec<String>,
        timeout_seconds: u64,
    },
    ScheduleTask {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task_id: Option<String>,
        prompt: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        script: Option<String>,
        #[serde(rename = "schedule_type")]
        schedule_type: String,
        #[serde(rename = "schedule_value")]
        schedule_value: String,
        #[serde(rename = "context_mode", default)]
        context_mode: ContextMode,
        target_jid: String,
    },
    PauseTask {
        task_id: String,
    },
    ResumeTask {
        task_id: String,
    },
    CancelTask {
        task_id: String,
    },
    UpdateTask {
        task_id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompt: Option<String>,
        /// An empty script removes the one there is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        script: Option<String>,
        #[serde(
            rename = "schedule_type",
            default,
            skip_serializing_if = "Option::is_none"
        )]
        schedule_type: Option<String>,
        #[serde(
            rename = "schedule_value",
            default,
            skip_serializing_if = "Option::is_none"
        )]
        schedule_value: Option<String>,
    },
    RegisterGroup {
        jid: String,
        name: String,
        folder: String,
        trigger: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        requires_trigger: Option<bool>,
        /// What the agent would like the group's container to have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container_config: Option<Value>,
    },
    RefreshGroups,
}

/// Whether a task goes on with the group's conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ContextMode {
    Group,
    #[default]
    Isolated,
}

impl<'de> Deserialize<'de> for ContextMode {
    /// Anything but `group` is `isolated`, as in NanoClaw.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(from)? {
            Value::String(mode) if mode == "group" => Self::Group,
            _ => Self::Isolated,
        })
    }
}

impl Request {
    /// Reads a request file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        from_slice_lossy(bytes).map_err(|error| format!("not a request: {error}"))
    }

    /// Whether the agent waits for what a person says.
    pub(crate) const fn is_question(&self) -> bool {
        matches!(self, Self::AskUser { .. })
    }

    /// Its `type`, for warnings.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Message { .. } => "message",
            Self::File { .. } => "file",
            Self::AskUser { .. } => "ask_user",
            Self::ScheduleTask { .. } => "schedule_task",
            Self::PauseTask { .. } => "pause_task",
            Self::ResumeTask { .. } => "resume_task",
            Self::CancelTask { .. } => "cancel_task",
            Self::UpdateTask { .. } => "update_task",
            Self::RegisterGroup { .. } => "register_group",
            Self::RefreshGroups => "refresh_groups",
        }
    }
}
