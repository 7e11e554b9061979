//! The places a setting can come from, and which of them wins.

use std::fmt::{self, Display};
use std::path::PathBuf;

use drawbridge_proxy::config::ConfigFile;
use drawbridge_shared::protocol::AgentKind;

use super::key::{Key, ServeKey};
use super::value::parse_named;
use crate::error::{Error, Result};

/// What the user typed on the command line.
pub(crate) trait TypedSettings {
    /// The value of `--key`, if it was given.
    fn typed(&self, key: Key) -> Option<&str>;

    /// The values of `--mount`.
    fn mounts(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    /// The file, and the table in it where that is not the usual one.
    File(PathBuf, Option<String>),
    Variable(String),
    Flag(String),
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::File(path, Some(table)) => write!(f, "{} {table}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One line of `config show`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) source: Source,
}

/// The three places a setting can come from.
#[derive(Clone, Copy)]
pub(crate) struct Layers<'a> {
    pub(crate) flags: &'a dyn TypedSettings,
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) file: Option<&'a ConfigFile>,
}

/// A value as text, with its place for the error message.
pub(super) struct Found {
    name: &'static str,
    text: String,
    source: Source,
    table: String,
}

impl Found {
    pub(super) fn read<T>(self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T> {
        parse(&self.text).map_err(|rule| {
            let (name, text, table) = (self.name, &self.text, &self.table);
            let place = match &self.source {
                Source::Flag(flag) => flag.clone(),
                Source::Variable(variable) => format!("environment variable {variable}"),
                Source::File(path, _) => format!("{}: key {name:?} in {table}", path.display()),
                Source::Default => format!("default of {name:?}"),
            };
            Error::usage(format!("{place}: value {text:?} is not valid"))
                .hint(format!("accepted is {rule}"))
        })
    }
}

impl Layers<'_> {
    /// The setting of a run of this agent.
    pub(super) fn get(
        &self,
        key: Key,
        default: &str,
        agent: AgentKind,
        shown: &mut Vec<Shown>,
    ) -> Result<Found> {
        let found = self.find(key, Some(agent))?.unwrap_or_else(|| Found {
            name: key.name(),
            text: default.to_owned(),
            source: Source::Default,
            table: String::new(),
        });
        shown.push(Shown {
            key: key.name().to_owned(),
            value: found.text.clone(),
            source: found.source.clone(),
        });
        Ok(found)
    }

    /// The agent, which has to be known before the rest.
    pub(super) fn agent(&self, default: AgentKind) -> Result<AgentKind> {
        let found = self.find(Key::Agent, None)?;
        found.map_or(Ok(default), |found| found.read(parse_named))
    }

    fn find(&self, key: Key, agent: Option<AgentKind>) -> Result<Option<Found>> {
        let name = key.name();
        let found = |text, source| Found {
            name,
            text,
            source,
            table: String::new(),
        };
        if let Some(text) = self.flags.typed(key) {
            let source = Source::Flag(format!("--{name}"));
            return Ok(Some(found(text.to_owned(), source)));
        }
        if let Some(text) = (self.environment)(&key.variable()) {
            return Ok(Some(found(text, Source::Variable(key.variable()))));
        }
        let Some(file) = self.file else {
            return Ok(None);
        };
        // What is said of the agent is closer than what is said of all runs.
        if let Some(agent) = agent
            && let Some(table) = file.agents.get(agent.name())
            && let Some(found) = in_table(file, &agent_table(agent.name()), table, name)?
        {
            return Ok(Some(found));
        }
        let run = file.run.as_ref();
        run.map_or(Ok(None), |table| in_table(file, RUN, table, name))
    }

    /// Refuses keys that nobody knows, in all tables of the launcher.
    pub(super) fn refuse_unknown_keys(&self) -> Result<()> {
        let Some(file) = self.file else {
            return Ok(());
        };
        let path = file.path.display();
        let unknown = |name: &str, table: &str| {
            Error::usage(format!("{path}: unknown key {name:?} in {table}"))
        };
        let all = |_| true;
        if let Some(run) = &file.run {
            Key::require_known(run.keys(), all, |name| unknown(name, RUN))?;
        }
        for (agent, table) in &file.agents {
            let shown = agent_table(agent);
            parse_named::<AgentKind>(agent).map_err(|rule| {
                Error::usage(format!("{path}: there is no agent for {shown}"))
                    .hint(format!("accepted is {rule}"))
            })?;
            Key::require_known(table.keys(), Key::is_for_agents, |name| {
                unknown(name, &shown)
            })?;
        }
        match &file.serve {
            Some(serve) => ServeKey::require_known(serve.keys(), |name| unknown(name, SERVE)),
            None => Ok(()),
        }
    }
}

pub(super) const RUN: &str = "[run]";
pub(super) const SERVE: &str = "[serve]";

pub(super) fn agent_table(agent: &str) -> String {
    format!("[agent.{agent}]")
}

/// The value of a key in one of the file's tables.
pub(super) fn in_table(
    file: &ConfigFile,
    shown: &str,
    table: &toml::Table,
    name: &'static str,
) -> Result<Option<Found>> {
    let Some(value) = table.get(name) else {
        return Ok(None);
    };
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(truth) => truth.to_string(),
        other => {
            let (path, kind) = (file.path.display(), other.type_str());
            return Err(Error::usage(format!(
                "{path}: key {name:?} in {shown} is a {kind}, not a single value"
            )));
        }
    };
    let is_usual = shown == RUN || shown == SERVE;
    Ok(Some(Found {
        name,
        text,
        source: Source::File(file.path.clone(), (!is_usual).then(|| shown.to_owned())),
        table: shown.to_owned(),
    }))
}

impl Found {
    /// A value of `serve` that was typed, or its default.
    pub(super) fn of_serve(name: &'static str, typed: Option<&str>, default: &str) -> Self {
        let (text, source) = match typed {
            Some(text) => (text, Source::Flag(format!("--{name}"))),
            None => (default, Source::Default),
        };
        Self {
            name,
            text: text.to_owned(),
            source,
            table: String::new(),
        }
    }

    /// What `config show` prints of it.
    pub(super) fn shown_as(&self, key: String) -> Shown {
        Shown {
            key,
            value: self.text.clone(),
            source: self.source.clone(),
        }
    }
}
