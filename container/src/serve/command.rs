//! The commands of clients, as they are on the wire.

use drawbridge_shared::ids::GroupName;
use drawbridge_shared::ipc::HostMessage;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::submission::{Stage, SubmissionId};
use crate::error::{Context, Error, Result};

/// A command: an object with one key, the command's name.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Command {
    Live(LiveCommand),
    Store(StoreCommand),
}

/// A command that only a running `serve` can carry out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(crate) enum LiveCommand {
    /// Accepts a [`Submission`](super::submission::Submission), whose text is kept
    /// as it was written.
    Submit(Box<RawValue>),
    /// A message for a live run. One to a group without such a run becomes a
    /// submission.
    Send {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<SubmissionId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<GroupName>,
        message: HostMessage,
    },
    /// Answers a `request` event of an agent.
    Answer {
        id: SubmissionId,
        /// The request's own id.
        request: String,
        /// Whether it is accepted.
        ok: bool,
        /// The answer to a question, or the reason of a refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// Stops the agent's present turn.
    Interrupt { id: SubmissionId },
    /// Ends the conversation after its present turn, or at once.
    Close {
        id: SubmissionId,
        #[serde(default)]
        now: bool,
    },
    /// The state of `serve`.
    Health {},
}

/// A command on the store, which needs no running `serve`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(crate) enum StoreCommand {
    /// Submissions, oldest first.
    List {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<Stage>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<GroupName>,
        #[serde(default)]
        after: i64,
    },
    /// One submission.
    Show { id: SubmissionId },
    /// One dead letter with its input, attempts and log.
    DeadLetter { id: SubmissionId },
    /// Tries a dead letter again.
    Retry { id: SubmissionId },
    /// Deletes a dead letter, or all.
    Purge {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<SubmissionId>,
    },
}

impl Command {
    /// Reads a command.
    ///
    /// # Errors
    /// The command is not valid; the error names what is accepted.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        read(text).context(|| Error::usage("the command is not valid"))
    }
}

fn read(text: &str) -> serde_json::Result<Command> {
    use name::Command as Name;
    match serde_json::from_str(text)? {
        Name::Submit(..)
        | Name::Send {}
        | Name::Answer {}
        | Name::Interrupt {}
        | Name::Close {}
        | Name::Health {} => serde_json::from_str(text).map(Command::Live),
        Name::List {} | Name::Show {} | Name::DeadLetter {} | Name::Retry {} | Name::Purge {} => {
            serde_json::from_str(text).map(Command::Store)
        }
    }
}

/// The name of a command, read before the rest of it.
mod name {
    use super::{Deserialize, IgnoredAny};

    /// A command of any kind, without its fields. Errors list the names in this
    /// order.
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub(super) enum Command {
        Submit(IgnoredAny),
        Send {},
        Answer {},
        Interrupt {},
        Close {},
        List {},
        Show {},
        DeadLetter {},
        Retry {},
        Purge {},
        Health {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_object_with_one_key() {
        for text in [
            r#"{"submit":{"prompt" : "x"}}"#,
            r#"{"send":{"group":"a","message":{"type":"message","text":"x"}}}"#,
            r#"{"answer":{"id":1,"request":"r","ok":true}}"#,
            r#"{"interrupt":{"id":1}}"#,
            r#"{"close":{"id":1,"now":true}}"#,
            r#"{"list":{"stage":"dead","after":0}}"#,
            r#"{"show":{"id":1}}"#,
            r#"{"dead-letter":{"id":1}}"#,
            r#"{"retry":{"id":1}}"#,
            r#"{"purge":{}}"#,
            r#"{"health":{}}"#,
        ] {
            let command = Command::parse(text).unwrap();
            assert_eq!(serde_json::to_string(&command).unwrap(), text);
        }
    }

    #[test]
    fn an_error_names_what_is_accepted() {
        let names = "expected one of `submit`, `send`, `answer`, `interrupt`, `close`, `list`, \
                     `show`, `dead-letter`, `retry`, `purge`, `health`";
        for (text, expected) in [
            (
                r#"{"stop":{"id":1}}"#,
                format!("unknown variant `stop`, {names} at line 1 column 7"),
            ),
            (
                r#"{"close":{}}"#,
                "missing field `id` at line 1 column 11".to_owned(),
            ),
            (
                r#"{"retry":3}"#,
                "invalid type: integer `3`, expected struct variant Command::Retry at line 1 \
                 column 10"
                    .to_owned(),
            ),
            (
                r#""health""#,
                "invalid type: unit variant, expected struct variant".to_owned(),
            ),
        ] {
            let error = Command::parse(text).unwrap_err();
            let expected = format!("the command is not valid: {expected}");
            assert_eq!(error.one_line(), expected, "{text}");
        }
    }
}
