//! Changes one value in the text of `drawbridge.toml`, and nothing else of it.

use std::path::Path;

use drawbridge_shared::protocol::AgentKind;
use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use super::layers::{RUN, SERVE, agent_table};
use super::run::Key;
use super::serve::ServeKey;
use super::setting::{Scope, SettingKey};
use super::value::parse_agent;
use crate::error::{Context, Error, Result};

/// Address of a setting in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `[run]`
    Run(Key),
    /// `[agent.NAME]`
    Agent(AgentKind, Key),
    /// `[serve]`
    Serve(ServeKey),
}

impl Address {
    /// Reads `KEY`, `run.KEY`, `agent.NAME.KEY` or `serve.KEY`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let found = match *text.split('.').collect::<Vec<_>>() {
            [key] | ["run", key] => Key::find(key, Scope::Table).map(Self::Run),
            ["agent", agent, key] => parse_agent(agent)
                .ok()
                .zip(Key::find(key, Scope::AgentTable))
                .map(|(agent, key)| Self::Agent(agent, key)),
            ["serve", key] => ServeKey::find(key, Scope::Table).map(Self::Serve),
            _ => None,
        };
        found.ok_or_else(|| {
            let run: Vec<_> = Key::in_scope(Scope::Table).map(Key::name).collect();
            let serve: Vec<_> = ServeKey::in_scope(Scope::Table)
                .map(ServeKey::full_name)
                .collect();
            Error::usage(format!("there is no setting {text:?}")).hint(format!(
                "accepted keys are {}, the same for one agent as agent.NAME.KEY, and {}",
                run.join(", "),
                serve.join(", ")
            ))
        })
    }

    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Run(key) | Self::Agent(_, key) => key.name(),
            Self::Serve(key) => key.name(),
        }
    }

    /// The tables it is in, from outside.
    fn tables(self) -> Vec<&'static str> {
        match self {
            Self::Run(_) => vec!["run"],
            Self::Agent(agent, _) => vec!["agent", agent.name()],
            Self::Serve(_) => vec!["serve"],
        }
    }

    fn shown_table(self) -> String {
        match self {
            Self::Run(_) => RUN.to_owned(),
            Self::Agent(agent, _) => agent_table(agent.name()),
            Self::Serve(_) => SERVE.to_owned(),
        }
    }
}

/// The text with the value at its place. Comments stay, those beside the old
/// value too.
pub(crate) fn set(path: &Path, text: &str, at: Address, value: &str) -> Result<String> {
    let mut document = read(path, text)?;
    let mut table: &mut dyn TableLike = document.as_table_mut();
    let tables = at.tables();
    for (depth, name) in tables.iter().enumerate() {
        let is_last = depth + 1 == tables.len();
        let item = table.entry(name).or_insert_with(|| {
            let mut new = Table::new();
            // `[agent]` alone would say nothing.
            new.set_implicit(!is_last);
            Item::Table(new)
        });
        table = item.as_table_like_mut().ok_or_else(|| {
            let (path, shown) = (path.display(), at.shown_table());
            Error::usage(format!("{path}: {shown} must be a table"))
        })?;
    }
    let mut new = toml_value(value);
    match table.get_mut(at.key()).and_then(Item::as_value_mut) {
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => {
            table.insert(at.key(), Item::Value(new));
        }
    }
    Ok(document.to_string())
}

/// The text without the value, and without the comments right above and beside
/// it; `None` when it is not there. An unknown key can be removed where it is.
pub(crate) fn unset(path: &Path, text: &str, key: &str) -> Result<Option<String>> {
    let known = Address::parse(key);
    let place = match &known {
        Ok(at) => Some((at.tables(), at.key())),
        Err(_) => misspelt(key),
    };
    let removed = match place {
        Some((tables, name)) => remove(path, text, &tables, name)?,
        None => None,
    };
    match removed {
        Some(text) => Ok(Some(text)),
        None => known.map(|_| None),
    }
}

/// Address of an unknown key, in a table that should hold settings alone.
fn misspelt(text: &str) -> Option<(Vec<&str>, &str)> {
    match *text.split('.').collect::<Vec<_>>() {
        [key] => Some((vec!["run"], key)),
        [table @ ("run" | "serve"), key] => Some((vec![table], key)),
        ["agent", agent, key] => Some((vec!["agent", agent], key)),
        _ => None,
    }
}

fn remove(path: &Path, text: &str, tables: &[&str], key: &str) -> Result<Option<String>> {
    let mut document = read(path, text)?;
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for name in tables {
        let found = table.get_mut(name).and_then(Item::as_table_like_mut);
        let Some(found) = found else {
            return Ok(None);
        };
        table = found;
    }
    let removed = table.remove(key);
    Ok(removed.map(|_| document.to_string()))
}

fn read(path: &Path, text: &str) -> Result<DocumentMut> {
    text.parse().context(|| {
        Error::usage(format!("{} cannot be read", path.display()))
            .hint("correct it in an editor first")
    })
}

/// The value in TOML: a text that looks like a number or a truth is written as one.
fn toml_value(text: &str) -> Value {
    let candidates = [
        text.parse::<bool>().ok().map(Value::from),
        text.parse::<i64>().ok().map(Value::from),
    ];
    let mut plain = candidates.into_iter().flatten();
    // `007` is not the same as `7`.
    let same = plain.find(|value| value.to_string() == text);
    same.unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# mine\n[run]\nmemory = \"1g\" # enough\n# many\npids   = 64\n\n\
                        [[route]]\npreset = \"openai\"\n";

    fn changed(text: &str, key: &str, value: &str) -> String {
        set(Path::new("/x"), text, Address::parse(key).unwrap(), value).unwrap()
    }

    #[test]
    fn only_the_value_changes() {
        let text = changed(FILE, "memory", "8g");
        assert_eq!(text, FILE.replace("\"1g\"", "\"8g\""));
        let text = changed(FILE, "run.pids", "128");
        assert_eq!(text, FILE.replace("64", "128"));
        assert_eq!(changed(FILE, "pids", "64"), FILE);
    }

    #[test]
    fn what_is_new_gets_its_table() {
        let text = changed(FILE, "tmp-exec", "false");
        let text = changed(&text, "agent.claude.memory", "6g");
        let text = changed(&text, "serve.max-runs", "2");
        insta::assert_snapshot!(text, @r#"
        # mine
        [run]
        memory = "1g" # enough
        # many
        pids   = 64
        tmp-exec = false

        [[route]]
        preset = "openai"

        [agent.claude]
        memory = "6g"

        [serve]
        max-runs = 2
        "#);
        insta::assert_snapshot!(changed("", "memory", "2g"), @r#"
        [run]
        memory = "2g"
        "#);
        let inline = changed("run = { pids = 64 } # all\n", "memory", "2g");
        assert_eq!(inline, "run = { pids = 64 , memory = \"2g\" } # all\n");
    }

    #[test]
    fn what_is_removed_takes_its_comments_along() {
        let path = Path::new("/x");
        let text = unset(path, FILE, "pids").unwrap().unwrap();
        assert_eq!(text, FILE.replace("# many\npids   = 64\n", ""));
        assert_eq!(unset(path, FILE, "agent.codex.cpus").unwrap(), None);
        assert_eq!(unset(path, FILE, "cpus").unwrap(), None);
    }

    #[test]
    fn what_is_no_setting_is_removed_from_the_tables_of_settings_only() {
        let path = Path::new("/x");
        let tables = "[run]\n[agent.codex]\n[serve]\n[proxy]\nport = 1\n";
        for (key, table) in [
            ("memroy", "[run]\n"),
            ("run.memroy", "[run]\n"),
            ("agent.codex.memroy", "[agent.codex]\n"),
            ("serve.max-rums", "[serve]\n"),
        ] {
            let name = key.rsplit('.').next().unwrap();
            let text = tables.replace(table, &format!("{table}{name} = 1\n"));
            assert_eq!(unset(path, &text, key).unwrap().unwrap(), tables, "{key}");
            assert!(unset(path, tables, key).is_err(), "{key} is not there");
        }
        assert!(unset(path, tables, "proxy.port").is_err());
    }

    #[test]
    fn what_is_no_setting_is_refused_with_those_that_are() {
        for key in [
            "memroy",
            "",
            "agent.clod.memory",
            "agent.claude.agent",
            "serve.memory",
            "proxy.bind",
            "run.run.memory",
        ] {
            let error = Address::parse(key).unwrap_err();
            let hint = error.hint_text().unwrap();
            assert!(hint.contains("memory, cpus"), "{key}: {hint}");
            assert!(hint.contains("serve.max-runs"), "{key}: {hint}");
        }
    }

    #[test]
    fn texts_stay_texts() {
        for (text, expected) in [
            ("true", "true"),
            ("64", "64"),
            ("1.5", "\"1.5\""),
            ("007", "\"007\""),
            ("a \"b\" # c", "'a \"b\" # c'"),
        ] {
            assert_eq!(toml_value(text).to_string(), expected);
        }
    }
}
