//! What the agent asks of the host: one JSON file per request. Names and fields
//! are NanoClaw's; `file` and `ask_user` are ours.

use jiff::Timestamp;
use serde::Serialize;

/// A request, with the fields in NanoClaw's order.
#[derive(Debug, Serialize)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub(super) enum Request {
    Message {
        chat_jid: String,
        text: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        sender: Option<String>,
        group_folder: String,
        timestamp: String,
    },
    File {
        chat_jid: String,
        /// Relative to the group's folder.
        path: String,
        filename: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        group_folder: String,
        timestamp: String,
    },
    AskUser {
        chat_jid: String,
        question: String,
        options: Vec<String>,
        timeout_seconds: u64,
        group_folder: String,
        timestamp: String,
    },
    ScheduleTask {
        task_id: String,
        prompt: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        script: Option<String>,
        #[serde(rename = "schedule_type")]
        schedule_type: &'static str,
        #[serde(rename = "schedule_value")]
        schedule_value: String,
        #[serde(rename = "context_mode")]
        context_mode: &'static str,
        target_jid: String,
        created_by: String,
        timestamp: String,
    },
    PauseTask(TaskRef),
    ResumeTask(TaskRef),
    CancelTask(TaskRef),
    UpdateTask {
        #[serde(flatten)]
        task: TaskRef,
        #[serde(skip_serializing_if = "Option::is_none")]
        prompt: Option<String>,
        /// An empty script removes the one there is.
        #[serde(skip_serializing_if = "Option::is_none")]
        script: Option<String>,
        #[serde(rename = "schedule_type", skip_serializing_if = "Option::is_none")]
        schedule_type: Option<&'static str>,
        #[serde(rename = "schedule_value", skip_serializing_if = "Option::is_none")]
        schedule_value: Option<String>,
    },
    RegisterGroup {
        jid: String,
        name: String,
        folder: String,
        trigger: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        requires_trigger: Option<bool>,
        timestamp: String,
    },
}

/// A task, and who speaks about it; the host trusts neither.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskRef {
    pub(super) task_id: String,
    pub(super) group_folder: String,
    pub(super) is_main: bool,
    pub(super) timestamp: String,
}

impl Request {
    /// The folder below the IPC folder that the request belongs in.
    pub(super) const fn folder(&self) -> &'static str {
        match self {
            Self::Message { .. } | Self::File { .. } | Self::AskUser { .. } => {
                drawbridge_shared::ipc::MESSAGES
            }
            _ => drawbridge_shared::ipc::TASKS,
        }
    }
}

/// The present, as JavaScript's `toISOString` writes it.
pub(super) fn timestamp() -> String {
    format!("{:.3}", Timestamp::now())
}
