//! The authority of a group: which requests it may make. The rules are NanoClaw's.

use drawbridge_runner::ScheduleType;
use drawbridge_shared::ids::GroupName;

use super::Request;
use super::snapshot::{Snapshot, Task};

/// The decision about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    /// The reason is for the agent.
    Refused(String),
}

/// Decides on a request of `group`, whose identity is the folder in which the
/// request was found.
pub(crate) fn decide(group: &GroupName, snapshot: &Snapshot, request: &Request) -> Decision {
    let caller = Caller {
        group,
        snapshot,
        is_main: snapshot.is_main(group),
    };
    match caller.check(request) {
        Ok(()) => Decision::Allowed,
        Err(reason) => Decision::Refused(reason),
    }
}

/// The group that asks, and what is known about it.
struct Caller<'a> {
    group: &'a GroupName,
    snapshot: &'a Snapshot,
    is_main: bool,
}

impl Caller<'_> {
    fn check(&self, request: &Request) -> Result<(), String> {
        match request {
            Request::Message { chat_jid, text, .. } => {
                self.may_speak_to(chat_jid)?;
                not_empty("text", text)
            }
            Request::File { chat_jid, .. } => self.may_speak_to(chat_jid),
            Request::AskUser {
                chat_jid, question, ..
            } => {
                self.may_speak_to(chat_jid)?;
                not_empty("question", question)
            }
            Request::ScheduleTask {
                prompt,
                schedule_type,
                schedule_value,
                target_jid,
                ..
            } => {
                self.may_schedule_for(target_jid)?;
                not_empty("prompt", prompt)?;
                kind(schedule_type)?.check(schedule_value)
            }
            Request::PauseTask { task_id, .. }
            | Request::ResumeTask { task_id, .. }
            | Request::CancelTask { task_id, .. } => self.own_task(task_id).map(drop),
            Request::UpdateTask {
                task_id,
                schedule_type,
                schedule_value,
                ..
            } => {
                let task = self.own_task(task_id)?;
                check_new_schedule(task, schedule_type.as_deref(), schedule_value.as_deref())
            }
            Request::RegisterGroup {
                jid,
                name,
                folder,
                trigger,
                ..
            } => {
                self.must_be_main("register groups")?;
                for (field, value) in [("jid", jid), ("name", name), ("trigger", trigger)] {
                    not_empty(field, value)?;
                }
                let folder: Result<GroupName, _> = folder.parse();
                folder.map(drop).map_err(|error| error.to_string())
            }
            Request::RefreshGroups => self.must_be_main("refresh the list of groups"),
        }
    }

    fn must_be_main(&self, action: &str) -> Result<(), String> {
        if self.is_main {
            Ok(())
        } else {
            Err(format!("only the main group can {action}"))
        }
    }

    /// The main group speaks to any chat, another to its own.
    fn may_speak_to(&self, jid: &str) -> Result<(), String> {
        if self.is_main || self.snapshot.folder_of(jid) == Some(self.group) {
            Ok(())
        } else {
            Err(format!("{jid:?} is not a chat of this group"))
        }
    }

    /// A task needs a group to run in; the main group's may be another's.
    fn may_schedule_for(&self, jid: &str) -> Result<(), String> {
        match self.snapshot.folder_of(jid) {
            Some(folder) if self.is_main || folder == self.group => Ok(()),
            None if self.is_main => Err(format!("{jid:?} is not a registered group")),
            _ => Err(format!("{jid:?} is not a chat of this group")),
        }
    }

    /// A task that the group may change. Another group's is said not to be
    /// there, as the agent is not to learn of it.
    fn own_task(&self, id: &str) -> Result<&Task, String> {
        let task = self.snapshot.task(id);
        task.filter(|task| self.is_main || task.group_folder == *self.group)
            .ok_or_else(|| format!("there is no task {id:?}"))
    }
}

fn not_empty(field: &str, value: &str) -> Result<(), String> {
    if value.trim().is_empty() {
        Err(format!("{field} is empty"))
    } else {
        Ok(())
    }
}

fn kind(name: &str) -> Result<ScheduleType, String> {
    ScheduleType::parse(name).ok_or_else(|| {
        let names = ScheduleType::ALL.map(ScheduleType::name).join(", ");
        format!("schedule_type {name:?} is not one of {names}")
    })
}

/// Checks a changed schedule. A part that is not given stays as it is, and both
/// have to fit.
fn check_new_schedule(
    task: &Task,
    schedule_type: Option<&str>,
    schedule_value: Option<&str>,
) -> Result<(), String> {
    if schedule_type.is_none() && schedule_value.is_none() {
        return Ok(());
    }
    let value = schedule_value.unwrap_or(&task.schedule_value);
    kind(schedule_type.unwrap_or(&task.schedule_type))?.check(value)
}

#[cfg(test)]
mod tests;
