//! Settings of a run, from flags, environment and configuration file.

use drawbridge_proxy::config::{ConfigFile, Environment, ProxyConfig};

use super::{Layers, RunSettings, ServeSettings, Shown, Source, TypedSettings, credentials};
use crate::error::{Context, Error, Result};
use crate::mounts::MountRequest;
use crate::state::State;

/// Settings and credentials, as every run resolves them.
pub(crate) fn settle(flags: &dyn TypedSettings) -> Result<(RunSettings, Result<ProxyConfig>)> {
    let environment = observe()?;
    let file = find_file(&environment)?;
    let (settings, _) = resolve(flags, &environment, file.as_ref())?;
    let proxy = credentials::resolve(&settings, &environment, file.as_ref());
    Ok((settings, proxy))
}

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
pub(crate) fn find_file(environment: &Environment) -> Result<Option<ConfigFile>> {
    ConfigFile::find(environment).context(|| {
        Error::usage("the configuration is not valid").hint(
            "correct it in an editor: it is TOML, with the tables [run], [agent.NAME], [serve], \
             [[mounts]], [proxy] and [[route]]",
        )
    })
}

pub(crate) fn resolve(
    flags: &dyn TypedSettings,
    environment: &Environment,
    file: Option<&ConfigFile>,
) -> Result<(RunSettings, Vec<Shown>)> {
    let (mut settings, mut shown) = RunSettings::resolve(&Layers {
        flags,
        environment: &|name| environment.variable(name).map(str::to_owned),
        file,
    })?;
    let mut add = |mount: MountRequest, source: Source| {
        let key = "mount".to_owned();
        let value = mount.to_string();
        shown.push(Shown { key, value, source });
        settings.mounts.push(mount);
    };
    // Flags add to what the file has.
    if let Some(file) = file {
        for mount in MountRequest::from_tables(&file.path, &file.mounts)? {
            add(mount, Source::File(file.path.clone(), None));
        }
    }
    for text in flags.mounts() {
        let source = Source::Flag("--mount".to_owned());
        add(MountRequest::from_flag(text)?, source);
    }
    let (_, of_serve) = ServeSettings::of_file(file)?;
    shown.extend(of_serve);
    Ok((settings, shown))
}
