//! The requests of an agent to its host: one JSON file per request.
//!
//! Names, fields and their order are NanoClaw's; `file` and `ask_user` are ours.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::ipc::{MESSAGES, TASKS};
use crate::json::from_slice_lossy;

/// A request, as the runner writes it and the host reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
#[expect(
    missing_docs,
    reason = "the fields are NanoClaw's and speak for themselves"
)]
pub enum AgentRequest {
    /// A text for a chat.
    Message {
        chat_jid: String,
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sender: Option<String>,
        #[serde(flatten, skip_deserializing)]
        claims: Claims,
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
        #[serde(flatten, skip_deserializing)]
        claims: Claims,
    },
    /// A question whose answer the agent waits for.
    AskUser {
        chat_jid: String,
        question: String,
        #[serde(default)]
        options: Vec<String>,
        timeout_seconds: u64,
        #[serde(flatten, skip_deserializing)]
        claims: Claims,
    },
    /// A new task.
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
        #[serde(flatten, skip_deserializing)]
        claims: Claims,
    },
    /// A task that is not run until it is resumed.
    PauseTask {
        task_id: String,
        #[serde(flatten, skip_deserializing)]
        claims: Claims,
    },
    /// A paused task that is run again.
    ResumeTask {
        task_id: String,
        #[serde(flatten, skip_deserializing)]
        claims: Claims,
    },
    /// A task that is removed.
    CancelTask {
        task_id: String,
        #[serde(flatten, skip_deserializing)]
        claims: Claims,
    },
    /// Changes to a task; a field that is absent stays as it is.
    UpdateTask {
        task_id: String,
        #[serde(flatten, skip_deserializing)]
        claims: Claims,
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
    /// A chat that becomes a group.
    RegisterGroup {
        jid: String,
        name: String,
        folder: String,
        trigger: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        requires_trigger: Option<bool>,
        /// Settings that the agent proposes for the group's container.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container_config: Option<Value>,
        #[serde(flatten, skip_deserializing)]
        claims: Claims,
    },
    /// A fresh list of the groups.
    RefreshGroups,
}

/// The sender's description of itself and the time. NanoClaw's host expects it;
/// ours does not even read it, as the folder of a request names its sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The group that a task was made by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// The group that sends the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_folder: Option<String>,
    /// Whether that is the privileged group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_main: Option<bool>,
    /// The time of the request, as JavaScript's `toISOString` writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
}

/// The conversation that a task runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextMode {
    /// The group's own.
    Group,
    /// A new one.
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

impl AgentRequest {
    /// Reads a request file.
    ///
    /// # Errors
    /// It is not JSON, or not a known request.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        from_slice_lossy(bytes)
    }

    /// The folder below the IPC folder that the request belongs in.
    #[must_use]
    pub const fn folder(&self) -> &'static str {
        match self {
            Self::Message { .. } | Self::File { .. } | Self::AskUser { .. } => MESSAGES,
            _ => TASKS,
        }
    }

    /// Whether the agent waits for a person's answer.
    #[must_use]
    pub const fn is_question(&self) -> bool {
        matches!(self, Self::AskUser { .. })
    }

    /// Its `type`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn update() -> AgentRequest {
        AgentRequest::UpdateTask {
            task_id: "task-1".to_owned(),
            claims: Claims {
                group_folder: Some("dev".to_owned()),
                is_main: Some(true),
                timestamp: Some("now".to_owned()),
                created_by: None,
            },
            prompt: Some("p".to_owned()),
            script: None,
            schedule_type: None,
            schedule_value: None,
        }
    }

    #[test]
    fn the_fields_are_written_in_nanoclaws_order() {
        insta::assert_snapshot!(
            serde_json::to_string(&update()).unwrap(),
            @r#"{"type":"update_task","taskId":"task-1","groupFolder":"dev","isMain":true,"timestamp":"now","prompt":"p"}"#
        );
    }

    /// A request cannot claim to come from another group.
    #[test]
    fn claims_are_not_read() {
        let bytes = serde_json::to_vec(&update()).unwrap();
        let read = AgentRequest::parse(&bytes).unwrap();
        insta::assert_snapshot!(
            serde_json::to_string(&read).unwrap(),
            @r#"{"type":"update_task","taskId":"task-1","prompt":"p"}"#
        );
    }

    #[test]
    fn a_context_mode_that_is_unknown_is_isolated() {
        let mode = |mode: &str| serde_json::from_str::<ContextMode>(mode).unwrap();
        assert_eq!(mode("\"group\""), ContextMode::Group);
        assert_eq!(mode("\"bogus\""), ContextMode::Isolated);
        assert_eq!(mode("7"), ContextMode::Isolated);
    }
}
