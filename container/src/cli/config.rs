//! `drawbridge config`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use drawbridge_proxy::config::ProxyConfig;
use drawbridge_settings::{Document, Environment};
use drawbridge_shared::exit::Exit;
use drawbridge_shared::ipc::replace_atomic;

use crate::config::edit::{self, Address};
use crate::config::{FlagValues, Key, SettingKey, SettingRow, find_file, observe, resolve_with};
use crate::error::{Context, Error, Result};
use crate::terminal::output;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show each value and where it comes from.
    #[command(visible_alias = "list")]
    Show {
        #[command(flatten)]
        settings: FlagValues<Key>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print one value, as a run would have it.
    Get {
        /// The setting: KEY, or serve.KEY.
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Write one value into the configuration file, if it is acceptable. All
    /// else in the file stays as it is.
    Set {
        /// The setting: KEY, agent.NAME.KEY for one agent, or serve.KEY.
        #[arg(value_name = "KEY")]
        key: String,
        /// Its value, as the flag would have it.
        #[arg(value_name = "VALUE", allow_hyphen_values = true)]
        value: String,
        /// Change the file of your configuration folder, not the one in use.
        #[arg(long)]
        user: bool,
    },
    /// Remove one value from the configuration file, or a key that is none of
    /// the settings.
    Unset {
        /// The setting, as for `set`.
        #[arg(value_name = "KEY")]
        key: String,
        /// Change the file of your configuration folder, not the one in use.
        #[arg(long)]
        user: bool,
    },
    /// Print which file is used, or would be written.
    Path,
}

/// Carries it out.
pub(crate) fn command(command: &ConfigCommand) -> Result<Exit> {
    let environment = observe()?;
    match command {
        ConfigCommand::Show { settings, json } => {
            let file = find_file(&environment)?;
            let (_, rows) = resolve_with(settings, &environment, file.as_ref())?;
            show(&rows, *json);
        }
        ConfigCommand::Get { key } => output::data_line(&get(&environment, key)?),
        ConfigCommand::Set { key, value, user } => {
            let at = Address::parse(key)?;
            let change = |path: &Path, text: &str| {
                let changed = edit::set(path, text, at, value)?;
                require_acceptable(path, &changed)?;
                Ok(Some(changed))
            };
            let path = alter(&environment, *user, change)?;
            output::note(&format!("{key} = {value:?} in {}", path.display()));
            report_override(&environment, at, &path);
        }
        ConfigCommand::Unset { key, user } => {
            // What is left was there before: to go by it makes nothing worse, and a
            // file that is wrong in two places is mended in two steps.
            let change = |path: &Path, text: &str| edit::unset(path, text, key);
            let path = alter(&environment, *user, change)?;
            output::note(&format!("{key} is not in {}", path.display()));
        }
        ConfigCommand::Path => {
            output::data_line(&file_to_write(&environment, false)?.display().to_string());
        }
    }
    Ok(Exit::Success)
}

fn show(rows: &[SettingRow], as_json: bool) {
    if as_json {
        let values = rows.iter().map(|row| {
            let source = row.source.to_string();
            let value = serde_json::json!({ "value": row.value, "source": source });
            (row.key.clone(), value)
        });
        let values: serde_json::Map<_, _> = values.collect();
        output::data_line(&serde_json::Value::Object(values).to_string());
        return;
    }
    for SettingRow { key, value, source } in rows {
        output::data_line(&format!("{key} = {value:?}  # {source}"));
    }
}

fn get(environment: &Environment, key: &str) -> Result<String> {
    let at = Address::parse(key)?;
    let agent = match at {
        Address::Agent(agent, _) => Some(agent.name()),
        Address::Run(_) | Address::Serve(_) => None,
    };
    let mut flags = FlagValues::default();
    if let Some(agent) = agent {
        flags.give(Key::Agent, agent);
    }
    let file = find_file(environment)?;
    let (_, rows) = resolve_with(&flags, environment, file.as_ref())?;
    let name = match at {
        Address::Serve(key) => key.full_name(),
        _ => at.key().to_owned(),
    };
    // `on-request` of `serve` is that of the runs, unless it is set.
    let found = rows.iter().find(|row| row.key == name);
    let found = found.or_else(|| rows.iter().find(|row| row.key == at.key()));
    Ok(found.map(|row| row.value.clone()).unwrap_or_default())
}

/// Changes the text of the file.
fn alter(
    environment: &Environment,
    of_user: bool,
    change: impl FnOnce(&Path, &str) -> Result<Option<String>>,
) -> Result<PathBuf> {
    let path = file_to_write(environment, of_user)?;
    let failed = || Error::not_started(format!("cannot change {}", path.display()));
    let folder = path.parent().ok_or_else(failed)?;
    fs::create_dir_all(folder).context(failed)?;
    // Two of us at once take turns, and neither loses the other's change.
    let turn = File::open(folder).context(failed)?;
    turn.lock().context(failed)?;
    let text = if path.exists() {
        Document::text(&path).context(|| Error::usage("the configuration cannot be read"))?
    } else {
        String::new()
    };
    if let Some(changed) = change(&path, &text)? {
        replace_atomic(&path, changed.as_bytes()).context(failed)?;
    }
    Ok(path)
}

/// The file in use, or where one would be looked for first. Behind a link, it
/// is the file itself that is replaced.
fn file_to_write(environment: &Environment, of_user: bool) -> Result<PathBuf> {
    let path = if of_user {
        Document::place_of_user(environment).ok_or_else(|| {
            Error::usage(
                "there is no configuration folder: neither XDG_CONFIG_HOME nor HOME is set",
            )
        })?
    } else {
        let used = Document::place(environment);
        used.unwrap_or_else(|| Document::place_here(environment))
    };
    Ok(fs::canonicalize(&path).unwrap_or(path))
}

/// Checks what every command would check in this file.
fn require_acceptable(path: &Path, text: &str) -> Result<()> {
    let file = Document::parse(path, text)
        .and_then(|document| ProxyConfig::require_form(&document).map(|()| document))
        .context(|| Error::usage("the configuration would not be valid"))?;
    let nothing = Environment::new::<String, String>([], path.parent().unwrap_or(path));
    resolve_with(&FlagValues::default(), &nothing, Some(&file)).map(drop)
}

/// Says so when the value that was just written is not the one that counts.
fn report_override(environment: &Environment, at: Address, path: &Path) {
    if let Some(used) = Document::place(environment).and_then(|used| fs::canonicalize(used).ok())
        && used != path
    {
        output::note(&format!("here {} is used instead", used.display()));
    }
    let (Address::Run(key) | Address::Agent(_, key)) = at else {
        return;
    };
    let variable = key.setting().variable();
    if environment.variable(&variable).is_some() {
        output::note(&format!("the environment variable {variable} wins over it"));
    }
}
