//! Settings of a run, from flags, environment and configuration file.

use drawbridge_proxy::config::ProxyConfig;
use drawbridge_settings::{Document, Environment};
use drawbridge_shared::protocol::{AgentArgsError, AgentKind, check_agent_args};

use super::credentials;
use super::flags::FlagValues;
use super::layers::{SettingRow, Source};
use super::run::{Key, RunSettings, Sources};
use super::serve::ServeSettings;
use super::setting::SettingKey;
use crate::error::{Context, Error, Result};
use crate::mounts::MountRequest;
use crate::state::State;

/// Settings of a run, and the proxy's configuration for it.
pub(crate) fn resolve(flags: &FlagValues<Key>) -> Result<(RunSettings, Result<ProxyConfig>)> {
    let environment = observe()?;
    let file = find_file(&environment)?;
    let (settings, _) = resolve_with(flags, &environment, file.as_ref())?;
    let proxy = credentials::resolve(&settings, &environment, file.as_ref());
    Ok((settings, proxy))
}

/// Environment of this process, and the folder in which it is read.
pub(crate) fn observe() -> Result<Environment> {
    let environment = Environment::observe()
        .context(|| Error::not_started("the working directory cannot be read"))?;
    // An agent would tell us what to do.
    if State::holds(environment.directory())? {
        let directory = environment.directory().display();
        return Err(Error::usage(format!(
            "{directory} is in the state folder, and agents may have written to it"
        ))
        .hint("start drawbridge in a folder of your own"));
    }
    Ok(environment)
}

/// `drawbridge.toml`. One that cannot be read stops the command: what it would
/// have restricted is not known.
pub(crate) fn find_file(environment: &Environment) -> Result<Option<Document>> {
    let document = Document::find(environment).and_then(|document| {
        document.iter().try_for_each(ProxyConfig::require_form)?;
        Ok(document)
    });
    document.context(|| {
        Error::usage("the configuration is not valid").hint(
            "correct it in an editor: it is TOML, with the tables [run], [agent.NAME], [serve], \
             [[mounts]], [proxy] and [[route]]",
        )
    })
}

/// Settings of a run, and the rows of `config show`, which has those of `serve`
/// as well.
pub(crate) fn resolve_with(
    flags: &FlagValues<Key>,
    environment: &Environment,
    file: Option<&Document>,
) -> Result<(RunSettings, Vec<SettingRow>)> {
    let (mut settings, mut rows) = RunSettings::resolve(&Sources {
        flags,
        environment: &|name| environment.variable(name).map(str::to_owned),
        file,
    })?;
    require_agent_args(&settings)?;
    if let Some(file) = file {
        // Flags add to what the file has, and their rows are the last.
        let mounts = MountRequest::from_tables(&file.path, &file.mounts)?;
        let before_flags = rows.len() - settings.mounts.len();
        let of_file = mounts.iter().map(|mount| SettingRow {
            key: Key::Mount.full_name(),
            value: mount.to_string(),
            source: Source::File(file.path.clone(), None),
        });
        rows.splice(before_flags..before_flags, of_file);
        settings.mounts.splice(0..0, mounts);
    }
    let (_, of_serve) = ServeSettings::of_file(file)?;
    rows.extend(of_serve);
    Ok((settings, rows))
}

/// Refuses arguments that the agent has no use for, or that undo ours.
fn require_agent_args(settings: &RunSettings) -> Result<()> {
    let agent = settings.agent;
    check_agent_args(agent, &settings.agent_args).map_err(|refused| {
        let hint = match (&refused, agent) {
            (AgentArgsError::NoCommandLine(_), AgentKind::Builtin) => {
                "leave it out, or choose another agent".to_owned()
            }
            (AgentArgsError::NoCommandLine(_), _) => {
                let name = agent.name();
                format!("give it behind two dashes: --agent {name} -- PROGRAM ARGUMENTS")
            }
            (AgentArgsError::NotAFlag(_), _) => {
                "begin with a flag, and give its value as --flag=value or as the next --agent-arg"
                    .to_owned()
            }
            (AgentArgsError::Reserved { .. }, _) => {
                "leave it out; `drawbridge run --help` lists what can be set".to_owned()
            }
        };
        Error::usage("--agent-arg").hint(hint).caused_by(refused)
    })
}
