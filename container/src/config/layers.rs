//! Layers of settings, of which the strongest with a value wins.

use std::fmt::{self, Display};
use std::path::PathBuf;

use drawbridge_settings::Document;
use drawbridge_shared::protocol::AgentKind;

use super::flags::FlagValues;
use super::setting::{Default, Scope, Setting, SettingKey};
use crate::error::{Error, Result};

pub(super) const RUN: &str = "[run]";
pub(super) const SERVE: &str = "[serve]";

pub(super) fn agent_table(agent: &str) -> String {
    format!("[agent.{agent}]")
}

/// Source of a value.
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
pub(crate) struct SettingRow {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) source: Source,
}

/// One place in which settings may be given.
pub(super) enum Layer<'a, K> {
    Flags(&'a FlagValues<K>),
    Environment(&'a dyn Fn(&str) -> Option<String>),
    /// Table of the configuration file, with its name in brackets.
    Table {
        file: &'a Document,
        name: String,
        values: &'a toml::Table,
    },
}

/// All places in which settings may be given, the strongest first.
pub(super) struct Layers<'a, K> {
    pub(super) layers: Vec<Layer<'a, K>>,
    /// The agent whose defaults count.
    pub(super) agent: Option<AgentKind>,
}

impl<K: SettingKey> Layers<'_, K> {
    /// The value of a setting; `rows` gets what `config show` prints of it.
    pub(super) fn find(&self, key: K, rows: &mut Vec<SettingRow>) -> Result<RawSetting> {
        let setting = key.setting();
        let mut values = Vec::new();
        // A list has the values of all layers, in which the strongest is last.
        let is_list = setting.is_list();
        for layer in &self.layers {
            if values.is_empty() || is_list {
                values.splice(0..0, layer.values(key)?);
            }
        }
        if values.is_empty() {
            values.extend(self.default(setting));
        }
        rows.extend(values.iter().map(|value| SettingRow {
            key: key.full_name(),
            value: value.text.clone(),
            source: value.source.clone(),
        }));
        Ok(RawSetting { setting, values })
    }

    fn default(&self, setting: &Setting) -> Option<RawValue> {
        let text = match setting.default {
            Default::Text(text) => text.to_owned(),
            Default::OfAgent(of) => of(self.agent?),
            Default::Unset => return None,
        };
        Some(RawValue::new(text, Source::Default))
    }
}

impl<K: SettingKey> Layer<'_, K> {
    fn values(&self, key: K) -> Result<Vec<RawValue>> {
        let setting = key.setting();
        Ok(match self {
            Self::Flags(flags) => {
                let source = Source::Flag(format!("--{}", setting.name));
                let values = flags.all(key);
                values
                    .map(|text| RawValue::new(text.to_owned(), source.clone()))
                    .collect()
            }
            Self::Environment(variable) if setting.has(Scope::Variable) => {
                let name = setting.variable();
                let value = variable(&name);
                let value = value.map(|text| RawValue::new(text, Source::Variable(name)));
                value.into_iter().collect()
            }
            Self::Environment(_) => Vec::new(),
            Self::Table { file, name, values } => match values.get(setting.name) {
                Some(value) => vec![in_table(file, name, setting.name, value)?],
                None => Vec::new(),
            },
        })
    }
}

/// The value of a key in one of the file's tables.
fn in_table(file: &Document, table: &str, name: &str, value: &toml::Value) -> Result<RawValue> {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(truth) => truth.to_string(),
        other => {
            let (path, kind) = (file.path.display(), other.type_str());
            return Err(Error::usage(format!(
                "{path}: key {name:?} in {table} is a {kind}, not a single value"
            )));
        }
    };
    let is_usual = table == RUN || table == SERVE;
    let shown = (!is_usual).then(|| table.to_owned());
    Ok(RawValue {
        table: table.to_owned(),
        ..RawValue::new(text, Source::File(file.path.clone(), shown))
    })
}

/// A value as text, with its place for the error message.
struct RawValue {
    text: String,
    source: Source,
    table: String,
}

impl RawValue {
    const fn new(text: String, source: Source) -> Self {
        Self {
            text,
            source,
            table: String::new(),
        }
    }
}

/// The values of one setting as text.
pub(super) struct RawSetting {
    setting: &'static Setting,
    values: Vec<RawValue>,
}

impl RawSetting {
    /// The value of a setting that always has one.
    pub(super) fn one<T>(self, parse: impl Fn(&str) -> Result<T, String>) -> Result<T> {
        let name = self.setting.name;
        let value = self.optional(parse)?;
        value.ok_or_else(|| Error::usage(format!("there is no value for {name:?}")))
    }

    /// The value, if there is one.
    pub(super) fn optional<T>(
        self,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>> {
        let Some(value) = self.values.into_iter().next() else {
            return Ok(None);
        };
        parse(&value.text).map(Some).map_err(|rule| {
            let (name, text, table) = (self.setting.name, &value.text, &value.table);
            let place = match &value.source {
                Source::Flag(flag) => flag.clone(),
                Source::Variable(variable) => format!("environment variable {variable}"),
                Source::File(path, _) => format!("{}: key {name:?} in {table}", path.display()),
                Source::Default => format!("default of {name:?}"),
            };
            Error::usage(format!("{place}: value {text:?} is not valid"))
                .hint(format!("accepted is {rule}"))
        })
    }

    /// All values of a list.
    pub(super) fn list<T>(self, parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
        self.values.iter().map(|value| parse(&value.text)).collect()
    }
}
