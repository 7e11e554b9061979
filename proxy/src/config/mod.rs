//! The proxy's configuration: what `drawbridge.toml` and the environment said,
//! resolved into what the proxy uses.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use drawbridge_shared::protocol::AuthMode;

use crate::credential::CredentialSource;
pub use crate::policy::{ClientAuth, Deadlines, Fsync, Injection, Limits};
use crate::policy::{ErrorShape, RouteName, Rule};
use crate::secret::{Reason, Unavailable};
use crate::upstream::{OutgoingProxy, Upstream};

mod file;
mod preset;
mod resolve;

pub(crate) use drawbridge_settings::{Document, DocumentError, Environment};
pub use file::{ConfigError, Preset};

/// One route, resolved.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Name, and first path segment that selects the route.
    pub name: RouteName,
    /// Where its requests go.
    pub upstream: Upstream,
    /// Where its secret comes from; `Err` says why there is no source.
    pub credential: Result<CredentialSource, Unavailable>,
    /// Where its secret goes.
    pub injection: Injection,
    /// Requests that are allowed; an empty list allows none.
    pub allow: Vec<Rule>,
    /// The beginning of its clients' paths that the upstream does not have; rules
    /// are about what comes after it.
    pub strip_path: Option<String>,
    /// Paths whose `HEAD` the proxy answers itself.
    pub answered_heads: &'static [&'static str],
    /// In which shape errors are written.
    pub error_shape: ErrorShape,
    /// Whether the beta for OAuth tokens is added to `anthropic-beta`.
    pub adds_oauth_beta: bool,
    /// Whether answers tell how many tokens they cost.
    pub is_metered: bool,
    /// Bounds of this route only.
    pub limits: RouteLimits,
}

/// Bounds of one route; `None` leaves it to the proxy's, or without a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// For the head of an answer.
    pub first_byte: Option<Duration>,
    /// For the next piece of a body.
    pub idle: Option<Duration>,
    /// Bytes of one request body.
    pub body_bytes: Option<u64>,
    /// Requests in flight at one time.
    pub concurrent: Option<u32>,
}

/// Where `credential-proxy` listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenConfig {
    /// The address for TCP; the bind rule chooses when absent.
    pub bind: Option<IpAddr>,
    /// The TCP port.
    pub port: Option<u16>,
    /// The unix socket.
    pub socket: Option<PathBuf>,
    /// The unix socket for sessions, metrics and reloading.
    pub admin_socket: Option<PathBuf>,
    /// The loopback address for health and metrics.
    pub health: Option<SocketAddr>,
    /// Whether an address that means every interface is accepted.
    pub allow_wildcard: bool,
}

/// Where and how requests are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// The file.
    pub path: PathBuf,
    /// When records are forced onto the disk.
    pub fsync: Fsync,
}

/// Everything the proxy needs to start.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The routes; the first is the default.
    pub routes: Vec<RouteConfig>,
    /// Where `credential-proxy` listens; the launcher has listeners of its own.
    pub listen: ListenConfig,
    /// Proof that clients have to give.
    pub client_auth: ClientAuth,
    /// The longest waits.
    pub deadlines: Deadlines,
    /// Bounds on what is held.
    pub limits: Limits,
    /// Files of root certificates to trust beside the platform's.
    pub extra_roots: Vec<PathBuf>,
    /// Threads that serve requests.
    pub workers: NonZeroUsize,
    /// The proxy that the network demands for the way out.
    pub outgoing: Option<OutgoingProxy>,
    /// Longest time of requests in flight after the first signal.
    pub drain: Duration,
    /// The audit file; none is written when absent.
    pub audit: Option<AuditConfig>,
    /// Environment that credentials are read from.
    pub environment: Environment,
}

impl ProxyConfig {
    /// Resolves what the file and the environment say. Without routes in the
    /// file there is one: the `anthropic` preset from the environment.
    ///
    /// # Errors
    /// A value is not valid.
    pub fn resolve(document: Option<&Document>, env: &Environment) -> Result<Self, ConfigError> {
        Self::resolve_for(document, env, Preset::Anthropic)
    }

    /// Resolves as [`Self::resolve`] does, but without routes in the file there
    /// is the one of `implied`, for an agent of another vendor.
    ///
    /// # Errors
    /// A value is not valid.
    pub fn resolve_for(
        document: Option<&Document>,
        env: &Environment,
        implied: Preset,
    ) -> Result<Self, ConfigError> {
        resolve::resolve(document, env, implied)
    }

    /// Checks the form of the proxy's tables, before anything is resolved.
    ///
    /// # Errors
    /// They have an unknown key, or a value that is not one of the accepted ones.
    pub fn require_form(document: &Document) -> Result<(), DocumentError> {
        file::ProxyTables::read(document).map(drop)
    }

    /// Whether there is a route of this name.
    #[must_use]
    pub fn has_route(&self, name: &str) -> bool {
        self.routes.iter().any(|route| route.name.as_str() == name)
    }

    /// Which kind of key the clients of the default route send.
    #[must_use]
    pub fn auth_mode(&self) -> AuthMode {
        match self.routes.first().map(|route| &route.injection) {
            Some(Injection::Bearer) => AuthMode::Oauth,
            _ => AuthMode::ApiKey,
        }
    }

    /// Checks that every route has a source of its credential, and that the values
    /// which can be read without a program or a vendor are usable. A value that is
    /// not there yet may still come, so only the route `needed`, else the default
    /// route, has to have it.
    ///
    /// # Errors
    /// A route has no source, or no usable value; the error says why.
    pub fn validate(&self, needed: Option<&str>) -> Result<(), CredentialError> {
        let mut sources = Vec::with_capacity(self.routes.len());
        for route in &self.routes {
            let source = route.credential.as_ref();
            sources.push(source.map_err(|reason| CredentialError::NoSource(reason.clone()))?);
        }
        for (index, (route, source)) in self.routes.iter().zip(sources).enumerate() {
            let Err(problem) = source.validate(&self.environment) else {
                continue;
            };
            let is_needed = needed.map_or(index == 0, |needed| needed == route.name.as_str());
            if is_needed || problem.reason() != Reason::Missing {
                let route = route.name.clone();
                return Err(CredentialError::Unusable { route, problem });
            }
        }
        Ok(())
    }
}

/// The reason why a configuration has no usable credential.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CredentialError {
    /// A route has no source of its credential.
    #[error(transparent)]
    NoSource(Unavailable),
    /// A source has no usable value.
    #[error("no usable credential for the route {route}")]
    Unusable {
        /// The route.
        route: RouteName,
        /// The cause.
        #[source]
        problem: Unavailable,
    },
}
