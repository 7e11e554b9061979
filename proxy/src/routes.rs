//! The routes in use, ready to be matched.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::base::chain;
use crate::base::headers::add_list_item;
use crate::config::{ProxyConfig, RouteConfig, RouteLimits};
use crate::credential::{Credential, CredentialSource, Credentials};
use crate::observe::metrics::{Metrics, RouteMetrics};
use crate::policy::{Deadlines, ErrorStyle, Injection, Refusal};
use crate::policy::{RouteName, Rule};
use crate::secret::{Reason, Secret, Unavailable};
use crate::upstream::Upstream;
use crate::usage::UsageMeter;

/// The beta that the Anthropic API wants for OAuth tokens.
const OAUTH_BETA: &str = "oauth-2025-04-20";
/// Where ChatGPT's API looks for the account that a Codex login belongs to.
const CHATGPT_ACCOUNT: HeaderName = HeaderName::from_static("chatgpt-account-id");
const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// All routes; the first one is the default.
#[derive(Debug)]
pub(crate) struct RouteTable {
    routes: Vec<Route>,
}

/// A route that is ready for use.
#[derive(Debug)]
pub(crate) struct Route {
    index: usize,
    config: RouteConfig,
    upstream: Arc<Upstream>,
    host: HeaderValue,
    metrics: Arc<RouteMetrics>,
    in_flight: Arc<AtomicU32>,
    credential: Result<Credential, Unavailable>,
}

/// A request in flight on a route, until it is dropped.
#[derive(Debug)]
pub(crate) struct RouteSlot(Arc<AtomicU32>);

impl Drop for RouteSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The route that a path leads to, and the path on that route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selected<'table, 'path> {
    pub(crate) route: &'table Route,
    pub(crate) path: &'path str,
}

impl RouteTable {
    /// Opens all credentials of a configuration and waits for their first values.
    pub(crate) async fn open(
        config: ProxyConfig,
        credentials: &Credentials,
        metrics: &Metrics,
    ) -> Self {
        let mut routes = Vec::with_capacity(config.routes.len());
        for (index, route) in config.routes.into_iter().enumerate() {
            let source = route.credential.as_ref();
            let credential = source
                .map_err(Clone::clone)
                .and_then(|source| credentials.open(source));
            routes.push(Route::new(index, route, credential, metrics));
        }
        for credential in credentials.all() {
            // All are being read at once; what is missing shows in the table.
            let _ = credential.current().await;
        }
        Self { routes }
    }

    /// Which routes have no credential, and why.
    pub(crate) fn missing_credentials(&self) -> Option<String> {
        let missing = self.routes.iter().filter_map(|route| {
            let error = match &route.credential {
                Ok(credential) => credential.unavailable()?,
                Err(error) => error.clone(),
            };
            Some(format!("route {}: {}", route.name(), chain(&error)))
        });
        let missing: Vec<_> = missing.collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }

    /// The sources of all credentials.
    pub(crate) fn sources(&self) -> HashSet<&CredentialSource> {
        let sources = self.routes.iter().map(|route| &route.config.credential);
        sources.flatten().collect()
    }

    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The route of a path: the one its first segment names, else the default.
    pub(crate) fn select<'path>(&self, path: &'path str) -> Option<Selected<'_, 'path>> {
        let first = path.get(1..)?.split('/').next()?;
        for route in &self.routes {
            if route.name().as_str() == first {
                let rest = &path[1 + first.len()..];
                // "/NAME" itself has no path on the route.
                return (!rest.is_empty()).then_some(route.selected(rest));
            }
        }
        Some(self.routes.first()?.selected(path))
    }

    /// The form of errors about a path.
    pub(crate) fn errors_for(&self, path: &str) -> ErrorStyle {
        let selected = self.select(path);
        selected.map_or_else(ErrorStyle::default, |Selected { route, .. }| ErrorStyle {
            shape: route.config.error_shape,
            asks_for_basic: matches!(route.config.injection, Injection::Basic(_)),
        })
    }

    /// Whether the proxy answers a request itself: Claude Code's connection
    /// checks, which carry no credential.
    pub(crate) fn answers_itself(&self, method: &Method, path: &str) -> bool {
        *method == Method::HEAD
            && self
                .select(path)
                .is_some_and(|Selected { route, path }| route.config.answered_heads.contains(&path))
    }
}

impl Route {
    pub(crate) fn new(
        index: usize,
        config: RouteConfig,
        credential: Result<Credential, Unavailable>,
        metrics: &Metrics,
    ) -> Self {
        let metrics = metrics.route(config.name.as_str());
        if let Ok(credential) = &credential {
            let metrics = Arc::clone(&metrics);
            credential.on_renewal(config.name.as_str(), move |is_done| {
                metrics.credential_refreshed(is_done);
            });
        }
        Self {
            index,
            upstream: Arc::new(config.upstream.clone()),
            host: config.upstream.host_header(),
            metrics,
            in_flight: Arc::default(),
            credential,
            config,
        }
    }

    /// A path on this route, as its upstream knows it.
    fn selected<'path>(&self, path: &'path str) -> Selected<'_, 'path> {
        let stripped = self.config.strip_path.as_deref();
        let rest = stripped.and_then(|prefix| path.strip_prefix(prefix));
        let path = rest.filter(|rest| rest.starts_with('/')).unwrap_or(path);
        Selected { route: self, path }
    }

    pub(crate) const fn index(&self) -> usize {
        self.index
    }

    pub(crate) const fn name(&self) -> &RouteName {
        &self.config.name
    }

    pub(crate) const fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    pub(crate) const fn metrics(&self) -> &Arc<RouteMetrics> {
        &self.metrics
    }

    /// A meter for an answer, on routes whose answers tell what they cost.
    pub(crate) fn meter(&self, answer: &HeaderMap) -> Option<UsageMeter> {
        let is_metered = self.config.is_metered;
        is_metered.then(|| UsageMeter::for_answer(answer)).flatten()
    }

    pub(crate) const fn host_header(&self) -> &HeaderValue {
        &self.host
    }

    pub(crate) fn base_path(&self) -> &str {
        self.upstream.base_path()
    }

    pub(crate) fn allows(&self, method: &Method, path: &str) -> bool {
        let mut rules = self.config.allow.iter();
        rules.any(|rule: &Rule| rule.allows(method, path))
    }

    /// The secret to inject now.
    ///
    /// # Errors
    /// There is none. The request ends here: without its credential a route
    /// refuses, it does not forward.
    pub(crate) async fn secret(&self) -> Result<Secret, Refusal> {
        let refusal = |error: &Unavailable| {
            let (route, detail) = (self.name().to_string(), chain(error));
            match error.reason() {
                Reason::Outage { retry_after } => Refusal::CredentialOutage {
                    route,
                    detail,
                    retry_after,
                },
                _ => Refusal::NoCredential { route, detail },
            }
        };
        let credential = self.credential.as_ref().map_err(refusal)?;
        if let Some(secret) = credential.try_current() {
            return Ok(secret);
        }
        credential.current().await.map_err(|error| refusal(&error))
    }

    /// Reports to the credential's source that the upstream did not accept it.
    pub(crate) fn refused(&self, secret: &Secret) {
        if let Ok(credential) = &self.credential {
            credential.refused(secret);
        }
    }

    /// The query parameter that carries the secret, if one does.
    pub(crate) fn injected_parameter(&self) -> Option<&str> {
        match &self.config.injection {
            Injection::Query(name) => Some(name),
            _ => None,
        }
    }

    /// Bounds of this route.
    pub(crate) const fn limits(&self) -> &RouteLimits {
        &self.config.limits
    }

    /// The deadlines with this route's own.
    pub(crate) fn deadlines(&self, general: &Deadlines) -> Deadlines {
        let limits = self.limits();
        Deadlines {
            first_byte: limits.first_byte.unwrap_or(general.first_byte),
            idle: limits.idle.unwrap_or(general.idle),
            ..*general
        }
    }

    /// Takes one of the requests that the route may have in flight.
    pub(crate) fn admit(&self) -> Result<RouteSlot, Refusal> {
        let slot = RouteSlot(Arc::clone(&self.in_flight));
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        match self.limits().concurrent {
            Some(limit) if before >= limit => Err(Refusal::TooManyConcurrent),
            _ => Ok(slot),
        }
    }

    /// Puts the secret in its place among the headers.
    ///
    /// # Errors
    /// It does not fit there.
    pub(crate) fn inject(&self, secret: &Secret, head: &mut Parts) -> Result<(), Refusal> {
        match &self.config.injection {
            Injection::Header(name) => {
                head.headers.insert(name.clone(), secret.header());
            }
            Injection::Bearer => {
                head.headers.insert(AUTHORIZATION, secret.bearer());
            }
            Injection::Basic(user) => {
                let pair = secret.basic(user).map_err(|error| Refusal::NoCredential {
                    route: self.name().to_string(),
                    detail: chain(&error),
                })?;
                head.headers.insert(AUTHORIZATION, pair);
            }
            // Part of the target, which is made with it.
            Injection::Query(_) => {}
        }
        if let Some(account) = secret.account() {
            head.headers.insert(CHATGPT_ACCOUNT, account.clone());
        }
        if self.config.adds_oauth_beta {
            add_list_item(&mut head.headers, &ANTHROPIC_BETA, OAUTH_BETA);
        }
        Ok(())
    }
}
