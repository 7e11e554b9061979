//! The commands that are only a few lines long.

use drawbridge_shared::exit::Exit;

use crate::cli::{ConfigCommand, SettingArgs};
use crate::config::{Layers, RunSettings, Shown};
use crate::error::Result;
use crate::output;

/// `drawbridge config`.
pub(crate) fn config(command: &ConfigCommand) -> Result<Exit> {
    let ConfigCommand::Show { settings, json } = command;
    let (_, shown) = resolve(settings)?;
    if *json {
        let values: serde_json::Map<_, _> = shown.iter().map(as_json).collect();
        output::data_line(&serde_json::Value::Object(values).to_string());
    } else {
        for Shown { key, value, source } in shown {
            output::data_line(&format!("{key} = {value:?}  # {source}"));
        }
    }
    Ok(Exit::Success)
}

fn as_json(shown: &Shown) -> (String, serde_json::Value) {
    let source = shown.source.to_string();
    let value = serde_json::json!({ "value": shown.value, "source": source });
    (shown.key.to_owned(), value)
}

fn resolve(flags: &SettingArgs) -> Result<(RunSettings, Vec<Shown>)> {
    RunSettings::resolve(&Layers {
        flags,
        environment: &|name| std::env::var(name).ok(),
        file: None,
    })
}
