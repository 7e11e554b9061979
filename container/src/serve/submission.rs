//! Submissions: work for an agent, as a client wrote it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use drawbridge_shared::ids::GroupName;
use serde::{Deserialize, Serialize};

use crate::config::{FlagValues, Key, Scope, SettingKey};
use crate::error::{Context, Error, Result};

/// Number of a submission; later ones have larger numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SubmissionId(pub(crate) i64);

impl fmt::Display for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SubmissionId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Kind of a submission, which decides its place in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A message of a person, in the order in which they came.
    #[default]
    Message,
    /// Work on a schedule; it comes before messages.
    Task,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Task => "task",
        }
    }
}

/// Stage of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// It waits for its turn, or for its next attempt.
    Queued,
    /// An attempt is under way.
    Running,
    /// It ended with a result.
    Done,
    /// It failed for good and is a dead letter.
    Dead,
}

impl Stage {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }
}

/// Work for an agent, as its caller wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Submission {
    pub(crate) prompt: String,
    /// Group that is kept; without one nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<GroupName>,
    #[serde(default)]
    pub(crate) kind: Kind,
    /// Name that the caller gives it; a second submission of this name is the
    /// first one, so that a caller who missed the reply can ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Settings that differ from those of `serve`, by the names of `[run]`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) settings: BTreeMap<String, String>,
    /// Mounts of this submission next to those that `serve` gives to all, as
    /// `--mount` has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) mounts: Vec<String>,
    /// Arguments for the agent's own command line, as `--agent-arg` has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) agent_args: Vec<String>,
    /// Program and arguments of the agents `command` and `acp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) program: Vec<String>,
    /// Whether the conversation goes on after the first answer, until it is
    /// closed or rests for too long.
    #[serde(default)]
    pub(crate) stay_open: bool,
}

/// Longest name that a caller may give.
const MAX_KEY: usize = 200;

impl Submission {
    /// Reads what a caller wrote.
    ///
    /// # Errors
    /// It is not such an object, or something in it is not acceptable.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let submission: Self =
            serde_json::from_str(text).context(|| Error::usage("the submission is not valid"))?;
        if submission.prompt.trim().is_empty() {
            return Err(Error::usage("the prompt is empty"));
        }
        let key = submission.key.as_deref();
        if key.is_some_and(|key| key.is_empty() || key.len() > MAX_KEY) {
            let rule = format!("accepted are 1 to {MAX_KEY} bytes");
            return Err(Error::usage("the key of the submission is not valid").hint(rule));
        }
        let names = submission.settings.keys();
        Key::require_known(names, Scope::Submission, |name| {
            Error::usage(format!("the submission has the unknown setting {name:?}"))
        })?;
        Ok(submission)
    }

    /// The settings of its run: its own where it has them, and those of `serve`.
    pub(super) fn flags(&self, serve: &FlagValues<Key>) -> FlagValues<Key> {
        let mut flags = serve.clone();
        for key in Key::in_scope(Scope::Submission) {
            if let Some(text) = self.settings.get(key.name()) {
                flags.give(key, text);
            }
        }
        for arg in &self.agent_args {
            flags.give(Key::AgentArg, arg);
        }
        for mount in &self.mounts {
            flags.give(Key::Mount, mount);
        }
        flags
    }
}

/// A submission with the text of its client, which the store keeps byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredSubmission {
    text: String,
    submission: Submission,
}

impl StoredSubmission {
    /// Reads the text of a client.
    ///
    /// # Errors
    /// The text is not an acceptable submission.
    pub(crate) fn parse(text: String) -> Result<Self> {
        let submission = Submission::parse(&text)?;
        Ok(Self { text, submission })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) const fn submission(&self) -> &Submission {
        &self.submission
    }
}
