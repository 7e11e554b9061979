//! The embedding host's groups and scheduled tasks.
//!
//! Drawbridge schedules nothing and registers no chats; that is the host's work.
//! It checks an agent's requests against what the host says there is, and shows
//! the agent the part of it that the group may see.

use drawbridge_shared::ids::GroupName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Groups and tasks, as the host gives them before a run and during it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snapshot {
    /// Chats that the host knows, registered or not.
    #[serde(default)]
    pub(super) groups: Vec<Chat>,
    /// Scheduled tasks of all groups.
    #[serde(default)]
    pub(super) tasks: Vec<Task>,
}

/// A chat; one that has a folder is a registered group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Chat {
    pub(super) jid: String,
    #[serde(default)]
    pub(super) name: String,
    /// The group's folder.
    #[serde(default)]
    pub(super) folder: Option<GroupName>,
    /// Whether its agent may speak for all groups.
    #[serde(default)]
    pub(super) is_main: bool,
    #[serde(default)]
    pub(super) last_activity: Option<String>,
}

/// A scheduled task, with the fields of NanoClaw's snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(super) id: String,
    #[serde(rename = "groupFolder")]
    pub(super) group_folder: GroupName,
    #[serde(default)]
    pub(super) prompt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) script: Option<String>,
    pub(super) schedule_type: String,
    pub(super) schedule_value: String,
    #[serde(default = "active")]
    pub(super) status: String,
    #[serde(default)]
    pub(super) next_run: Option<String>,
}

fn active() -> String {
    "active".to_owned()
}

impl Snapshot {
    /// The snapshot in which a group that the host does not name has a chat of its
    /// own, and no rights over others.
    pub(crate) fn with(mut self, group: &GroupName) -> Self {
        if self.chat_of(group).is_none() {
            self.groups.push(Chat {
                jid: format!("{group}@drawbridge"),
                name: group.to_string(),
                folder: Some(group.clone()),
                is_main: false,
                last_activity: None,
            });
        }
        self
    }

    /// The chat of a registered group; of several, the first.
    pub(super) fn chat_of(&self, group: &GroupName) -> Option<&Chat> {
        let mut chats = self.groups.iter();
        chats.find(|chat| chat.folder.as_ref() == Some(group))
    }

    /// The chat id of a group, for its run input.
    pub(crate) fn jid_of(&self, group: &GroupName) -> Option<&str> {
        self.chat_of(group).map(|chat| chat.jid.as_str())
    }

    /// Whether a group's agent may speak for all groups.
    pub(crate) fn is_main(&self, group: &GroupName) -> bool {
        let mut chats = self.groups.iter();
        chats.any(|chat| chat.is_main && chat.folder.as_ref() == Some(group))
    }

    /// The registered group behind a chat id.
    pub(super) fn folder_of(&self, jid: &str) -> Option<&GroupName> {
        let mut chats = self.groups.iter();
        chats.find(|chat| chat.jid == jid)?.folder.as_ref()
    }

    pub(super) fn task(&self, id: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// `current_tasks.json`: all tasks for the main group, its own for another.
    pub(crate) fn tasks_for(&self, group: &GroupName) -> Vec<u8> {
        let is_main = self.is_main(group);
        let tasks = self.tasks.iter();
        let seen: Vec<_> = tasks
            .filter(|task| is_main || task.group_folder == *group)
            .collect();
        json!(seen).to_string().into_bytes()
    }

    /// `available_groups.json`: all chats for the main group, none for another.
    pub(crate) fn groups_for(&self, group: &GroupName) -> Vec<u8> {
        let chats = self.groups.iter().filter(|_| self.is_main(group));
        let seen: Vec<_> = chats
            .map(|chat| {
                json!({
                    "jid": chat.jid,
                    "name": chat.name,
                    "lastActivity": chat.last_activity,
                    "isRegistered": chat.folder.is_some(),
                })
            })
            .collect();
        let synced = format!("{:.3}", Timestamp::now());
        json!({ "groups": seen, "lastSync": synced })
            .to_string()
            .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        serde_json::from_value(json!({
            "groups": [
                {"jid": "main@g", "name": "Main", "folder": "main", "isMain": true},
                {"jid": "a@g", "name": "A", "folder": "a"},
                {"jid": "new@g", "name": "New"},
            ],
            "tasks": [
                {"id": "t1", "groupFolder": "main", "schedule_type": "once", "schedule_value": "x"},
                {"id": "t2", "groupFolder": "a", "schedule_type": "once", "schedule_value": "x"},
            ],
        }))
        .unwrap()
    }

    fn read(bytes: &[u8]) -> serde_json::Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn the_main_group_sees_all_and_another_its_own_tasks() {
        let (main, a) = ("main".parse().unwrap(), "a".parse().unwrap());
        assert_eq!(
            read(&snapshot().tasks_for(&main)).as_array().unwrap().len(),
            2
        );
        let own = read(&snapshot().tasks_for(&a));
        assert_eq!(own.as_array().unwrap().len(), 1);
        assert_eq!(
            (&own[0]["id"], &own[0]["status"]),
            (&json!("t2"), &json!("active"))
        );
        assert_eq!(own[0]["next_run"], json!(null));
        let groups = read(&snapshot().groups_for(&main));
        assert_eq!(groups["groups"][2]["isRegistered"], false);
        assert_eq!(groups["groups"].as_array().unwrap().len(), 3);
        assert_eq!(read(&snapshot().groups_for(&a))["groups"], json!([]));
    }

    #[test]
    fn a_group_that_the_host_does_not_name_has_a_chat_and_no_rights() {
        let own: GroupName = "own".parse().unwrap();
        let snapshot = snapshot().with(&own);
        assert_eq!(snapshot.jid_of(&own), Some("own@drawbridge"));
        assert!(!snapshot.is_main(&own));
    }

    #[test]
    fn misspelt_fields_are_refused() {
        let typo = json!({ "groups": [{"jid": "x", "is_main": true}] });
        serde_json::from_value::<Snapshot>(typo).unwrap_err();
    }
}
