//! The routes in use, ready to be matched.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::{Injection, RouteConfig};
use crate::credential::{Credential, Secret, Unavailable};
use crate::error::Refusal;
use crate::forward::chain;
use crate::headers::add_list_item;
use crate::metrics::{Metrics, RouteMetrics};
use crate::route::{ErrorShape, RouteName, Rule};
use crate::upstream::Upstream;
use crate::usage::UsageMeter;

/// The beta that the Anthropic API wants for OAuth tokens.
const OAUTH_BETA: &str = "oauth-2025-04-20";
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
    credential: Result<Credential, Unavailable>,
}

/// The route that a path leads to, and the path on that route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selected<'table, 'path> {
    pub(crate) route: &'table Route,
    pub(crate) path: &'path str,
}

impl RouteTable {
    pub(crate) fn new(routes: Vec<Route>) -> Self {
        Self { routes }
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
                return (!rest.is_empty()).then_some(Selected { route, path: rest });
            }
        }
        let route = self.routes.first()?;
        Some(Selected { route, path })
    }

    /// In whose shape errors about a path are written.
    pub(crate) fn shape_for(&self, path: &str) -> ErrorShape {
        let selected = self.select(path);
        selected.map_or_else(ErrorShape::default, |s| s.route.config.error_shape)
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
        Self {
            index,
            upstream: Arc::new(config.upstream.clone()),
            host: config.upstream.host_header(),
            metrics: metrics.route(config.name.as_str()),
            credential,
            config,
        }
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
        let refusal = |error: &Unavailable| Refusal::NoCredential {
            route: self.name().to_string(),
            detail: chain(error),
        };
        let credential = self.credential.as_ref().map_err(refusal)?;
        if let Some(secret) = credential.try_current() {
            return Ok(secret);
        }
        credential.current().await.map_err(|error| refusal(&error))
    }

    /// Tells the credential's source that the upstream did not accept it.
    pub(crate) fn refused(&self, secret: &Secret) {
        if let Ok(credential) = &self.credential {
            credential.refused(secret);
        }
    }

    /// Puts the secret in its place.
    pub(crate) fn inject(&self, secret: &Secret, head: &mut Parts) {
        match &self.config.injection {
            Injection::Header(name) => {
                head.headers.insert(name.clone(), secret.header());
            }
            Injection::Bearer => {
                let name = http::header::AUTHORIZATION;
                head.headers.insert(name, secret.bearer());
            }
        }
        if self.config.adds_oauth_beta {
            add_list_item(&mut head.headers, &ANTHROPIC_BETA, OAUTH_BETA);
        }
    }
}
