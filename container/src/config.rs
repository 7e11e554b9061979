//! From flags, environment and `drawbridge.toml` to the settings of a run.
//!
//! A flag wins over the environment, which wins over the file. What nobody
//! knows is an error, so that a misspelt limit is not a missing one.

mod key;
mod value;

use std::fmt::{self, Display};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drawbridge_shared::protocol::AgentKind;

use crate::error::{Context, Error, Result};
use crate::mounts::MountRequest;
use crate::spec::{ByteSize, Cpus, ImageRef, Protection, User, UserChoice};

use value::{
    parse, parse_file_size, parse_model, parse_named, parse_pids, parse_time_limit, parse_waived,
};

pub(crate) use key::Key;
pub(crate) use value::{NetworkChoice, RuntimeChoice, SandboxChoice};

/// What the user typed on the command line.
pub(crate) trait TypedSettings {
    /// The value of `--key`, if it was given.
    fn typed(&self, key: Key) -> Option<&str>;

    /// The values of `--mount`.
    fn mounts(&self) -> &[String] {
        &[]
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    File(PathBuf),
    Variable(String),
    Flag(String),
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The settings of a run.
#[derive(Clone, Debug)]
pub(crate) struct RunSettings {
    pub(crate) runtime: RuntimeChoice,
    pub(crate) agent: AgentKind,
    pub(crate) image: ImageRef,
    pub(crate) network: NetworkChoice,
    pub(crate) model: Option<String>,
    pub(crate) memory: ByteSize,
    pub(crate) cpus: Cpus,
    pub(crate) pids: NonZeroU32,
    pub(crate) tmp_size: ByteSize,
    pub(crate) tmp_exec: bool,
    pub(crate) sandbox: SandboxChoice,
    /// The run is stopped when it has taken this long.
    pub(crate) timeout: Option<Duration>,
    /// The run is ended when neither side said anything for this long.
    pub(crate) idle_timeout: Option<Duration>,
    /// Protections that an engine without them may be used without.
    pub(crate) waive: Vec<Protection>,
    /// Whether files that are known to hold secrets are covered.
    pub(crate) mask_secrets: bool,
    /// The largest file an agent may write.
    pub(crate) file_size: Option<ByteSize>,
    /// Who the agent is in a container.
    pub(crate) user: UserChoice,
    /// What it sees of this machine beside its own folders.
    pub(crate) mounts: Vec<MountRequest>,
}

/// One line of `config show`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) key: &'static str,
    pub(crate) value: String,
    pub(crate) source: Source,
}

/// The three places a setting can come from.
pub(crate) struct Layers<'a> {
    pub(crate) flags: &'a dyn TypedSettings,
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) file: Option<(&'a Path, &'a toml::Table)>,
}

/// Settings that this program gives itself.
struct Fixed<'a>(&'a [(Key, &'a str)]);

impl TypedSettings for Fixed<'_> {
    fn typed(&self, key: Key) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| *value)
    }
}

impl RunSettings {
    /// The given values and otherwise the defaults, whatever the caller's
    /// configuration says.
    pub(crate) fn fixed(values: &[(Key, &str)]) -> Result<Self> {
        let (settings, _) = Self::resolve(&Layers {
            flags: &Fixed(values),
            environment: &|_| None,
            file: None,
        })?;
        Ok(settings)
    }

    /// Settles all settings, and tells where each comes from.
    pub(crate) fn resolve(layers: &Layers<'_>) -> Result<(Self, Vec<Shown>)> {
        layers.refuse_unknown_keys()?;
        let mut shown = Vec::new();
        let mut get = |key, default: &str| layers.get(key, default, &mut shown);
        let runtime = get(Key::Runtime, "auto")?.read(parse_named)?;
        let agent: AgentKind = get(Key::Agent, "claude")?.read(parse_named)?;
        let settings = Self {
            runtime,
            agent,
            image: get(Key::Image, &default_image(agent))?.read(parse)?,
            network: get(Key::Network, "sealed")?.read(parse_named)?,
            model: get(Key::Model, "")?.read(parse_model)?,
            memory: get(Key::Memory, "4g")?.read(parse)?,
            cpus: get(Key::Cpus, "2")?.read(parse)?,
            pids: get(Key::Pids, "512")?.read(parse_pids)?,
            tmp_size: get(Key::TmpSize, "512m")?.read(parse)?,
            tmp_exec: get(Key::TmpExec, "true")?.read(parse_named)?,
            sandbox: get(Key::Sandbox, "landlock")?.read(parse_named)?,
            timeout: get(Key::Timeout, "2h")?.read(parse_time_limit)?,
            idle_timeout: get(Key::IdleTimeout, "30m")?.read(parse_time_limit)?,
            waive: get(Key::Waive, "none")?.read(parse_waived)?,
            mask_secrets: get(Key::MaskSecrets, "true")?.read(parse_named)?,
            file_size: get(Key::FileSize, "16g")?.read(parse_file_size)?,
            user: get(Key::User, "caller")?.read(parse)?,
            mounts: Vec::new(),
        };
        Ok((settings, shown))
    }

    /// Who the agent is in a container.
    pub(crate) fn agent_user(&self) -> Result<User> {
        User::of_agent(self.user)
            .context(|| Error::not_started("nobody can be the agent").hint("see --user"))
    }
}

/// The image that `build-image` makes for an agent. A program of the user's own
/// runs in the small one, which has a shell.
pub(crate) fn default_image(agent: AgentKind) -> String {
    let name = match agent {
        AgentKind::Claude => "claude",
        AgentKind::Codex => "codex",
        AgentKind::Opencode => "opencode",
        AgentKind::Gemini => "gemini",
        AgentKind::Builtin | AgentKind::Acp | AgentKind::Command => "builtin",
    };
    format!("drawbridge/{name}:{}", env!("CARGO_PKG_VERSION"))
}

/// A value as text, with its place for the error message.
struct Found {
    key: Key,
    text: String,
    source: Source,
}

impl Found {
    fn read<T>(self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T> {
        parse(&self.text).map_err(|rule| {
            let (name, text) = (self.key.name(), &self.text);
            let place = match &self.source {
                Source::Flag(flag) => flag.clone(),
                Source::Variable(variable) => format!("environment variable {variable}"),
                Source::File(path) => format!("{}: key {name:?} in [run]", path.display()),
                Source::Default => format!("default of {name:?}"),
            };
            Error::usage(format!("{place}: value {text:?} is not valid"))
                .hint(format!("accepted is {rule}"))
        })
    }
}

impl Layers<'_> {
    fn get(&self, key: Key, default: &str, shown: &mut Vec<Shown>) -> Result<Found> {
        let (text, source) = self
            .find(key)?
            .unwrap_or_else(|| (default.to_owned(), Source::Default));
        shown.push(Shown {
            key: key.name(),
            value: text.clone(),
            source: source.clone(),
        });
        Ok(Found { key, text, source })
    }

    fn find(&self, key: Key) -> Result<Option<(String, Source)>> {
        if let Some(text) = self.flags.typed(key) {
            let source = Source::Flag(format!("--{}", key.name()));
            return Ok(Some((text.to_owned(), source)));
        }
        if let Some(text) = (self.environment)(&key.variable()) {
            return Ok(Some((text, Source::Variable(key.variable()))));
        }
        let Some((path, table)) = self.file else {
            return Ok(None);
        };
        let Some(value) = table.get(key.name()) else {
            return Ok(None);
        };
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            other => {
                let (path, name) = (path.display(), key.name());
                let kind = other.type_str();
                return Err(Error::usage(format!(
                    "{path}: key {name:?} in [run] is a {kind}, not a single value"
                )));
            }
        };
        Ok(Some((text, Source::File(path.to_owned()))))
    }

    fn refuse_unknown_keys(&self) -> Result<()> {
        let Some((path, table)) = self.file else {
            return Ok(());
        };
        Key::require_known(table.keys(), |name| {
            let path = path.display();
            Error::usage(format!("{path}: unknown key {name:?} in [run]"))
        })
    }
}

#[cfg(test)]
mod tests;
