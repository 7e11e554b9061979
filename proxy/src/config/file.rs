//! The proxy's tables of `drawbridge.toml`, checked for form. What the values
//! mean is resolved in [`super::resolve`].

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use drawbridge_settings::{Document, DocumentError};
use serde::{Deserialize, Deserializer};

use super::ClientAuth;
use crate::credential::CredentialSource;
use crate::policy::InvalidRouteName;
use crate::secret::Unavailable;
use crate::upstream::InvalidUpstream;

/// The proxy's tables, before the environment is looked at.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ProxyTables {
    /// The file they were read from.
    #[serde(skip)]
    pub(super) path: PathBuf,
    #[serde(default)]
    pub(super) proxy: ProxyTable,
    #[serde(default, rename = "route")]
    pub(super) routes: Vec<RouteTable>,
}

impl ProxyTables {
    /// Reads them from the document.
    ///
    /// # Errors
    /// They have an unknown key, or a value that is not one of the accepted ones.
    pub(super) fn read(document: &Document) -> Result<Self, DocumentError> {
        let mut tables: Self = document.tables()?;
        tables.path.clone_from(&document.path);
        Ok(tables)
    }
}

/// A fault of the proxy's configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The document cannot be read, or is not of the right form.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A value does not mean anything.
    #[error("{}: {key}: {problem}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, such as `route "openai": allow`.
        key: String,
        /// The fault, with what is accepted.
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
        /// The fault, with what is accepted.
        problem: String,
    },
    /// The proxy that the environment names cannot be used.
    #[error("{name} is not acceptable: {problem}")]
    OutgoingProxy {
        /// The variable.
        name: &'static str,
        /// The fault of its value, which is not repeated.
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
        /// Its fault.
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
