//! From flags, environment and `drawbridge.toml` to the settings of a run.
//!
//! A flag wins over the environment, which wins over the file. What nobody
//! knows is an error, so that a misspelt limit is not a missing one.

use std::fmt::{self, Display};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use drawbridge_shared::protocol::AgentKind;

use crate::error::{Error, Result};
use crate::spec::{ByteSize, Cpus, ImageRef, Protection};

/// Settings of `[run]`; the flag and the variable have the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Runtime,
    Agent,
    Image,
    Network,
    Model,
    Memory,
    Cpus,
    Pids,
    TmpSize,
    TmpExec,
    Sandbox,
    Timeout,
    IdleTimeout,
    Waive,
}

impl Key {
    const ALL: [Self; 14] = [
        Self::Runtime,
        Self::Agent,
        Self::Image,
        Self::Network,
        Self::Model,
        Self::Memory,
        Self::Cpus,
        Self::Pids,
        Self::TmpSize,
        Self::TmpExec,
        Self::Sandbox,
        Self::Timeout,
        Self::IdleTimeout,
        Self::Waive,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Agent => "agent",
            Self::Image => "image",
            Self::Network => "network",
            Self::Model => "model",
            Self::Memory => "memory",
            Self::Cpus => "cpus",
            Self::Pids => "pids",
            Self::TmpSize => "tmp-size",
            Self::TmpExec => "tmp-exec",
            Self::Sandbox => "sandbox",
            Self::Timeout => "timeout",
            Self::IdleTimeout => "idle-timeout",
            Self::Waive => "waive",
        }
    }

    /// The environment variable: `DRAWBRIDGE_` and the name.
    fn variable(self) -> String {
        format!(
            "DRAWBRIDGE_{}",
            self.name().to_uppercase().replace('-', "_")
        )
    }
}

/// What the user typed on the command line.
pub(crate) trait TypedSettings {
    /// The value of `--key`, if it was given.
    fn typed(&self, key: Key) -> Option<&str>;
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

/// Where agents run, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RuntimeChoice {
    Auto,
    Docker,
    Podman,
    Apple,
    Host,
}

/// What containers reach, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkChoice {
    Sealed,
    Bridge,
}

/// What is around an agent on the host, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SandboxChoice {
    /// Landlock, or no run at all.
    Landlock,
    /// Nothing.
    Off,
}

/// Gives an enum a fixed list of names, which is also its error message.
macro_rules! named {
    ($type:ty { $($name:literal => $value:expr),+ $(,)? }) => {
        impl Named for $type {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, $value)),+];
        }
    };
}

/// A choice among names.
trait Named: Sized + Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];
}

named!(RuntimeChoice {
    "auto" => Self::Auto, "docker" => Self::Docker, "podman" => Self::Podman, "apple" => Self::Apple,
    "host" => Self::Host
});
named!(NetworkChoice { "sealed" => Self::Sealed, "bridge" => Self::Bridge });
named!(AgentKind {
    "claude" => Self::Claude, "builtin" => Self::Builtin, "codex" => Self::Codex,
    "opencode" => Self::Opencode, "gemini" => Self::Gemini, "acp" => Self::Acp,
    "command" => Self::Command
});
named!(SandboxChoice { "landlock" => Self::Landlock, "off" => Self::Off });
named!(bool { "true" => true, "false" => false });

fn parse_named<T: Named>(text: &str) -> Result<T, String> {
    let found = T::NAMES.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    })
}

fn parse_waived(text: &str) -> Result<Vec<Protection>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let find = |name: &str| {
        let mut known = Protection::NAMES.iter();
        known
            .find(|(known, _)| *known == name)
            .map(|(_, protection)| *protection)
    };
    let waived: Option<Vec<_>> = text.split(',').map(|name| find(name.trim())).collect();
    waived.ok_or_else(|| {
        let names = Protection::NAMES.map(|(name, _)| name).join(", ");
        format!("none, or a list of {names}")
    })
}

fn parse<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|rule: T::Err| rule.to_string())
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
        };
        Ok((settings, shown))
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
        let is_known = |name: &str| Key::ALL.iter().any(|key| key.name() == name);
        match table.keys().find(|name| !is_known(name)) {
            None => Ok(()),
            Some(name) => {
                let names: Vec<_> = Key::ALL.iter().map(|key| key.name()).collect();
                let path = path.display();
                Err(
                    Error::usage(format!("{path}: unknown key {name:?} in [run]"))
                        .hint(format!("accepted keys are {}", names.join(", "))),
                )
            }
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a parse function")]
fn parse_model(text: &str) -> Result<Option<String>, String> {
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn parse_pids(text: &str) -> Result<NonZeroU32, String> {
    let number: Option<NonZeroU32> = text.parse().ok();
    number
        .filter(|number| (16..=1_000_000).contains(&number.get()))
        .ok_or_else(|| "a number from 16 to 1000000".to_owned())
}

fn parse_time_limit(text: &str) -> Result<Option<Duration>, String> {
    const RULE: &str = "a time from 1s to 30d, such as \"90s\", \"30m\" or \"2h\", or \"none\"";
    if text == "none" {
        return Ok(None);
    }
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        Some(b'd') => 86_400,
        _ => return Err(RULE.to_owned()),
    };
    let number: Option<u64> = text[..text.len() - 1].parse().ok();
    number
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| (1..=30 * 86_400).contains(seconds))
        .map(|seconds| Some(Duration::from_secs(seconds)))
        .ok_or_else(|| RULE.to_owned())
}

#[cfg(test)]
mod tests;
