//! `drawbridge.toml`: found, read and checked for form. What the values mean is
//! resolved in [`super::resolve`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{ClientAuth, Environment};
use crate::credential::CredentialSource;
use crate::policy::InvalidRouteName;
use crate::secret::Unavailable;
use crate::upstream::InvalidUpstream;

/// Name of the configuration file.
pub const FILE_NAME: &str = "drawbridge.toml";

/// Largest configuration file, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// What `drawbridge.toml` says, before the environment is looked at.
#[derive(Clone, Debug, Default)]
pub struct ConfigFile {
    /// The file it was read from.
    pub path: PathBuf,
    /// The launcher's table, which the proxy does not read.
    pub run: Option<toml::Table>,
    /// The launcher's `[agent.NAME]`, which the proxy does not read either.
    pub agents: BTreeMap<String, toml::Table>,
    /// The launcher's `[serve]`.
    pub serve: Option<toml::Table>,
    /// The launcher's `[[mounts]]`.
    pub mounts: Vec<toml::Table>,
    pub(super) proxy: ProxyTable,
    pub(super) routes: Vec<RouteTable>,
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The file is not of the right form.
    #[error("{}{line}: {message}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// ` line N`, where it is known.
        line: String,
        /// What is wrong, with what is accepted.
        message: String,
    },
    /// A value does not mean anything.
    #[error("{}: {key}: {problem}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, such as `route "openai": allow`.
        key: String,
        /// What is wrong, with what is accepted.
        problem: String,
    },
    /// A setting of the environment cannot be read.
    #[error(transparent)]
    Environment(#[from] Unavailable),
    /// A setting of the environment is not acceptable.
    #[error("{name} is not acceptable: {problem}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// What is wrong, with what is accepted.
        problem: String,
    },
    /// The proxy that the environment names cannot be used.
    #[error("{name} is not acceptable: {problem}")]
    OutgoingProxy {
        /// The variable.
        name: &'static str,
        /// What is wrong with its value, which is not repeated.
        problem: String,
    },
    /// A route's name is not one.
    #[error(transparent)]
    RouteName(#[from] InvalidRouteName),
    /// An upstream's URL is not acceptable.
    #[error("{key} is not acceptable")]
    Upstream {
        /// Where the URL was found.
        key: String,
        /// What is wrong with it.
        source: InvalidUpstream,
    },
}

impl ConfigError {
    /// The fix, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::OutgoingProxy { .. } => {
                Some("set `upstream-proxy = \"none\"` in [proxy] to go without it".into())
            }
            Self::Upstream { source, .. } => source.hint(),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    proxy: ProxyTable,
    #[serde(default)]
    route: Vec<RouteTable>,
    run: Option<toml::Table>,
    #[serde(default)]
    agent: BTreeMap<String, toml::Table>,
    serve: Option<toml::Table>,
    #[serde(default)]
    mounts: Vec<toml::Table>,
}

/// `[proxy]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ProxyTable {
    pub(super) bind: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) socket: Option<PathBuf>,
    pub(super) admin_socket: Option<PathBuf>,
    pub(super) health: Option<SocketAddr>,
    pub(super) allow_wildcard: Option<bool>,
    pub(super) client_auth: Option<ClientAuth>,
    pub(super) workers: Option<std::num::NonZeroUsize>,
    pub(super) extra_roots: Option<Vec<PathBuf>>,
    pub(super) upstream_proxy: Option<UpstreamProxy>,
    pub(super) drain: Option<Period>,
    #[serde(default)]
    pub(super) deadlines: DeadlinesTable,
    #[serde(default)]
    pub(super) limits: LimitsTable,
    pub(super) audit: Option<AuditTable>,
}

/// Whether the proxy's own connections go through another proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum UpstreamProxy {
    /// As `HTTPS_PROXY` or `ALL_PROXY`, and `NO_PROXY` say.
    #[default]
    Environment,
    /// Never.
    None,
}

/// `[proxy.deadlines]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct DeadlinesTable {
    pub(super) head: Option<Period>,
    pub(super) keep_alive: Option<Period>,
    pub(super) connect: Option<Period>,
    pub(super) first_byte: Option<Period>,
    pub(super) idle: Option<Period>,
    pub(super) idle_upstream: Option<Period>,
}

/// `[proxy.limits]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct LimitsTable {
    pub(super) connections: Option<usize>,
    pub(super) connections_per_client: Option<usize>,
    pub(super) idle_upstream_connections: Option<usize>,
}

/// `[proxy.audit]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct AuditTable {
    pub(super) path: PathBuf,
    #[serde(default)]
    pub(super) fsync: FsyncSetting,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FsyncSetting {
    Always,
    #[default]
    EverySecond,
    Never,
}

/// `[[route]]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RouteTable {
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) preset: Preset,
    pub(super) upstream: Option<String>,
    #[serde(default)]
    pub(super) allow_private: bool,
    #[serde(default, deserialize_with = "credential")]
    pub(super) credential: Option<CredentialSource>,
    pub(super) injection: Option<InjectionSetting>,
    pub(super) allow: Option<Vec<String>>,
    pub(super) strip_path: Option<String>,
    #[serde(default)]
    pub(super) default: bool,
    pub(super) first_byte: Option<Period>,
    pub(super) idle: Option<Period>,
    pub(super) body_bytes: Option<u64>,
    pub(super) concurrent: Option<u32>,
}

/// Routes that are known by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Anthropic's API.
    Anthropic,
    /// OpenAI's API.
    Openai,
    /// Google's Gemini API.
    Gemini,
    /// GitHub's API, and git over HTTPS.
    Github,
    /// None of them: everything is in the configuration.
    #[default]
    Generic,
}

/// `injection`, such as `"bearer"` or `{ header = "x-api-key" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum InjectionSetting {
    Bearer,
    Header(String),
    Basic(String),
    Query(String),
}

/// A time such as `"90s"`, `"10m"` or `"2h"`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Period(
    #[serde(deserialize_with = "crate::base::period::deserialize")] pub(super) Duration,
);

/// Reads `credential`. A key that was written here in the place of its source
/// must not be repeated in the error.
fn credential<'de, D: Deserializer<'de>>(input: D) -> Result<Option<CredentialSource>, D::Error> {
    match toml::Value::deserialize(input)? {
        toml::Value::Table(table) => CredentialSource::deserialize(table)
            .map(Some)
            .map_err(|error| serde::de::Error::custom(format!("credential: {}", error.message()))),
        _ => Err(serde::de::Error::custom(
            "credential: it says where the secret comes from and never holds it; write a table \
             such as { source = \"environment\", variable = \"OPENAI_API_KEY\" }",
        )),
    }
}

impl ConfigFile {
    /// Reads the file of the working directory, else that of the user's
    /// configuration folder, if there is one.
    ///
    /// # Errors
    /// A file is there but cannot be read or is not of the right form.
    pub fn find(env: &Environment) -> Result<Option<Self>, ConfigError> {
        let found = Self::place(env);
        found.map(|path| Self::read(&path)).transpose()
    }

    /// The file that [`Self::find`] reads.
    #[must_use]
    pub fn place(env: &Environment) -> Option<PathBuf> {
        let candidates = [Some(Self::place_here(env)), Self::place_of_user(env)];
        candidates.into_iter().flatten().find(|path| path.exists())
    }

    /// Where the file of the working directory is, or would be.
    #[must_use]
    pub fn place_here(env: &Environment) -> PathBuf {
        env.directory().join(FILE_NAME)
    }

    /// Where the user's own file is, or would be, if a home is known.
    #[must_use]
    pub fn place_of_user(env: &Environment) -> Option<PathBuf> {
        let folder = match (env.variable("XDG_CONFIG_HOME"), env.variable("HOME")) {
            (Some(folder), _) => PathBuf::from(folder),
            (None, Some(home)) => Path::new(home).join(".config"),
            (None, None) => return None,
        };
        Some(folder.join("drawbridge").join(FILE_NAME))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read or is not of the right form.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &Self::text(path)?)
    }

    /// The text of a file, whatever its form.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn text(path: &Path) -> Result<String, ConfigError> {
        let failed = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let size = std::fs::metadata(path).map_err(failed)?.len();
        if size > MAX_BYTES {
            return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
        }
        std::fs::read_to_string(path).map_err(failed)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// It is not of the right form: an unknown key, or a value that is none of
    /// the accepted ones.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let document: Document = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map(|before| before.matches('\n').count() + 1);
            ConfigError::Form {
                path: path.to_owned(),
                line: line.map(|line| format!(" line {line}")).unwrap_or_default(),
                message: error.message().to_owned(),
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            run: document.run,
            agents: document.agent,
            serve: document.serve,
            mounts: document.mounts,
            proxy: document.proxy,
            routes: document.route,
        })
    }
}
