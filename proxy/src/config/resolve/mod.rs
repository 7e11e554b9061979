//! From what was written to what is used: presets, defaults and environment.

use std::num::NonZeroUsize;
use std::time::Duration;

use drawbridge_settings::Document;
use drawbridge_shared::env::{
    ANTHROPIC_BASE_URL, CLAUDE_CODE_OAUTH_TOKEN, CREDENTIAL_PROXY_HOST, CREDENTIAL_PROXY_PORT,
};
use drawbridge_shared::protocol::AuthMode;
use http::HeaderName;

use super::file::{
    FsyncSetting, InjectionSetting, Period, Preset, ProxyTables, RouteTable, UpstreamProxy,
};
use super::preset::{Defaults, GITHUB_GIT};
use super::{
    AuditConfig, ConfigError, Deadlines, Environment, Injection, Limits, ListenConfig, ProxyConfig,
    RouteConfig, RouteLimits,
};
use crate::credential::{CredentialSource, anthropic_default, variable_default};
use crate::policy::{ErrorShape, Fsync, RouteName, Rule};
use crate::upstream::{OutgoingProxy, Upstream};

/// Most worker threads by default; more do not help one host's agents.
const MAX_DEFAULT_WORKERS: usize = 4;

/// Longest time of requests in flight after the first signal.
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// Resolves everything. See [`ProxyConfig::resolve_for`].
pub(super) fn resolve(
    document: Option<&Document>,
    env: &Environment,
    implied: Preset,
) -> Result<ProxyConfig, ConfigError> {
    let file = &document
        .map(ProxyTables::read)
        .transpose()?
        .unwrap_or_default();
    let table = &file.proxy;
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let default_workers = NonZeroUsize::new(cores.min(MAX_DEFAULT_WORKERS));
    Ok(ProxyConfig {
        routes: routes(file, env, implied)?,
        listen: listen(file, env)?,
        client_auth: table.client_auth.unwrap_or_default(),
        deadlines: deadlines(file),
        limits: limits(file),
        extra_roots: extra_roots(file, env),
        workers: table
            .workers
            .or(default_workers)
            .unwrap_or(NonZeroUsize::MIN),
        outgoing: outgoing(file, env)?,
        drain: table.drain.map_or(DEFAULT_DRAIN, |drain| drain.0),
        audit: table.audit.as_ref().map(|audit| AuditConfig {
            path: env.resolve(&audit.path),
            fsync: match audit.fsync {
                FsyncSetting::Always => Fsync::Always,
                FsyncSetting::EverySecond => Fsync::default(),
                FsyncSetting::Never => Fsync::Never,
            },
        }),
        environment: env.clone(),
    })
}

fn outgoing(file: &ProxyTables, env: &Environment) -> Result<Option<OutgoingProxy>, ConfigError> {
    match file.proxy.upstream_proxy.unwrap_or_default() {
        UpstreamProxy::None => Ok(None),
        UpstreamProxy::Environment => OutgoingProxy::from_environment(env)
            .map_err(|(name, problem)| ConfigError::OutgoingProxy { name, problem }),
    }
}

fn listen(file: &ProxyTables, env: &Environment) -> Result<ListenConfig, ConfigError> {
    let table = &file.proxy;
    Ok(ListenConfig {
        bind: setting(env, CREDENTIAL_PROXY_HOST, "an IP address")?.or(table.bind),
        port: setting(env, CREDENTIAL_PROXY_PORT, "a port from 0 to 65535")?.or(table.port),
        socket: table.socket.as_deref().map(|path| env.resolve(path)),
        admin_socket: table.admin_socket.as_deref().map(|path| env.resolve(path)),
        health: table.health,
        allow_wildcard: table.allow_wildcard.unwrap_or(false),
    })
}

/// A setting of the environment or of `.env`; NanoClaw's documents promise both.
fn setting<T: std::str::FromStr>(
    env: &Environment,
    name: &'static str,
    accepted: &str,
) -> Result<Option<T>, ConfigError> {
    let Some(found) = crate::secret::setting(env, name)? else {
        return Ok(None);
    };
    let value = found.value.parse().map_err(|_| ConfigError::Setting {
        name,
        problem: format!("{:?} is not {accepted}", found.value.as_str()),
    });
    value.map(Some)
}

fn deadlines(file: &ProxyTables) -> Deadlines {
    let (table, default) = (&file.proxy.deadlines, Deadlines::default());
    let or = |set: Option<Period>, default| set.map_or(default, |period| period.0);
    Deadlines {
        head: or(table.head, default.head),
        keep_alive: or(table.keep_alive, default.keep_alive),
        connect: or(table.connect, default.connect),
        first_byte: or(table.first_byte, default.first_byte),
        idle: or(table.idle, default.idle),
        idle_upstream: or(table.idle_upstream, default.idle_upstream),
    }
}

fn limits(file: &ProxyTables) -> Limits {
    let (table, default) = (&file.proxy.limits, Limits::default());
    Limits {
        connections: table.connections.unwrap_or(default.connections),
        connections_per_client: table
            .connections_per_client
            .unwrap_or(default.connections_per_client),
        idle_upstream_connections: table
            .idle_upstream_connections
            .unwrap_or(default.idle_upstream_connections),
    }
}

fn extra_roots(file: &ProxyTables, env: &Environment) -> Vec<std::path::PathBuf> {
    let roots = file.proxy.extra_roots.iter().flatten();
    roots.map(|path| env.resolve(path)).collect()
}

/// The routes, the default one first.
fn routes(
    file: &ProxyTables,
    env: &Environment,
    implied: Preset,
) -> Result<Vec<RouteConfig>, ConfigError> {
    if file.routes.is_empty() {
        return implied_routes(env, implied);
    }
    let mut routes: Vec<RouteConfig> = Vec::new();
    for table in &file.routes {
        let mut resolved = resolve_route(file, table, env)?;
        for route in &resolved {
            if routes.iter().any(|other| other.name == route.name) {
                let problem = "another route has this name; give each its own";
                return Err(value_error(file, &route.name, "name", problem));
            }
        }
        if table.default {
            routes.splice(0..0, resolved);
        } else {
            routes.append(&mut resolved);
        }
    }
    if file.routes.iter().filter(|table| table.default).count() > 1 {
        let problem = "more than one route is the default";
        return Err(value_error(file, &routes[0].name, "default", problem));
    }
    Ok(routes)
}

/// Routes of a configuration file that names none.
fn implied_routes(env: &Environment, preset: Preset) -> Result<Vec<RouteConfig>, ConfigError> {
    let file = ProxyTables {
        path: ANTHROPIC_BASE_URL.into(),
        ..ProxyTables::default()
    };
    let table = RouteTable {
        preset,
        ..RouteTable::default()
    };
    let mut routes = resolve_route(&file, &table, env)?;
    if let Some(variable) = preset.defaults().and_then(|defaults| defaults.variable) {
        for route in &mut routes {
            route.credential = variable_default(env, variable);
        }
    }
    Ok(routes)
}

/// One `[[route]]`. The `github` preset is two routes, because REST and git are
/// two hosts.
fn resolve_route(
    file: &ProxyTables,
    table: &RouteTable,
    env: &Environment,
) -> Result<Vec<RouteConfig>, ConfigError> {
    let defaults = table.preset.defaults();
    let name = table.name.as_deref().or_else(|| Some(defaults?.name));
    let name = name.ok_or_else(|| ConfigError::Value {
        path: file.path.clone(),
        key: "route".to_owned(),
        problem: "a generic route needs a name".to_owned(),
    })?;
    let name: RouteName = name.parse()?;
    let mut route = base_route(file, table, name, defaults, env)?;
    if table.preset == Preset::Anthropic {
        complete_anthropic(&mut route, table, env);
    }
    if table.preset != Preset::Github {
        return Ok(vec![route]);
    }
    let git_name: RouteName = format!("{}-git", route.name).parse()?;
    let git_table = RouteTable {
        injection: None,
        allow: None,
        ..table.clone()
    };
    let git = base_route(file, &git_table, git_name, Some(&GITHUB_GIT), env)?;
    if table.upstream.is_some() {
        // GitHub Enterprise Server has its REST API below its own address.
        let url = format!("{}/api/v3", git.upstream.url());
        route.upstream = upstream(file, &route.name, &url, table.allow_private)?;
    }
    Ok(vec![route, git])
}

fn base_route(
    file: &ProxyTables,
    table: &RouteTable,
    name: RouteName,
    defaults: Option<&Defaults>,
    env: &Environment,
) -> Result<RouteConfig, ConfigError> {
    let missing = |key: &str| value_error(file, &name, key, "a generic route needs it");
    let base_url = match table.preset {
        Preset::Anthropic if table.upstream.is_none() => {
            crate::secret::setting(env, ANTHROPIC_BASE_URL)?
        }
        _ => None,
    };
    let url = table.upstream.as_deref();
    let url = url.or_else(|| base_url.as_ref().map(|found| found.value.as_str()));
    let url = url.or_else(|| defaults.map(|defaults| defaults.upstream));
    let injection = match &table.injection {
        Some(setting) => injection(file, &name, setting)?,
        None => (defaults.ok_or_else(|| missing("injection"))?.injection)(),
    };
    let allow: Vec<&str> = match &table.allow {
        Some(rules) => rules.iter().map(String::as_str).collect(),
        None => defaults.ok_or_else(|| missing("allow"))?.allow.to_vec(),
    };
    let allow = allow.into_iter().map(|rule| {
        let rule = rule.parse::<Rule>();
        rule.map_err(|error| value_error(file, &name, "allow", &error.to_string()))
    });
    let variable = defaults.and_then(|defaults| defaults.variable);
    let credential = match (&table.credential, variable) {
        (Some(source), _) => Ok(source.clone()),
        (None, Some(variable)) => Ok(CredentialSource::Environment {
            variable: variable.to_owned(),
        }),
        (None, None) if table.preset == Preset::Anthropic => {
            anthropic_default(env).map(|(_, source)| source)
        }
        (None, None) => return Err(missing("credential")),
    };
    Ok(RouteConfig {
        upstream: upstream(
            file,
            &name,
            url.ok_or_else(|| missing("upstream"))?,
            table.allow_private,
        )?,
        credential,
        injection,
        allow: allow.collect::<Result<_, _>>()?,
        strip_path: table
            .strip_path
            .as_deref()
            .map(|path| strip_path(file, &name, path))
            .transpose()?,
        answered_heads: defaults.map_or(&[], |defaults| defaults.answered_heads),
        error_shape: defaults.map_or_else(ErrorShape::default, |defaults| defaults.error_shape),
        adds_oauth_beta: false,
        is_metered: defaults.is_some_and(|defaults| defaults.is_metered),
        limits: RouteLimits {
            first_byte: table.first_byte.map(|period| period.0),
            idle: table.idle.map(|period| period.0),
            body_bytes: table.body_bytes,
            concurrent: table.concurrent,
        },
        name,
    })
}

/// An OAuth token goes where Anthropic's API wants it, with its beta.
fn complete_anthropic(route: &mut RouteConfig, table: &RouteTable, env: &Environment) {
    let is_oauth = match &route.credential {
        Ok(
            CredentialSource::Environment { variable } | CredentialSource::Dotenv { variable, .. },
        ) => variable == CLAUDE_CODE_OAUTH_TOKEN,
        Ok(CredentialSource::ClaudeLogin { .. }) => true,
        _ => false,
    };
    // A gateway's own bearer token is no OAuth token, and the gateway may not
    // know the beta.
    let is_implied_bearer = table.credential.is_none()
        && anthropic_default(env).is_ok_and(|(mode, _)| mode == AuthMode::Oauth);
    if table.injection.is_none() && (is_oauth || is_implied_bearer) {
        route.injection = Injection::Bearer;
    }
    route.adds_oauth_beta = is_oauth;
}

fn injection(
    file: &ProxyTables,
    name: &RouteName,
    setting: &InjectionSetting,
) -> Result<Injection, ConfigError> {
    let invalid = |problem: String| value_error(file, name, "injection", &problem);
    match setting {
        InjectionSetting::Bearer => Ok(Injection::Bearer),
        InjectionSetting::Header(header) => header
            .parse::<HeaderName>()
            .ok()
            .filter(|header| !crate::base::headers::is_reserved(header))
            .map(Injection::Header)
            .ok_or_else(|| {
                invalid(format!(
                    "{header:?} is not a header that can carry a secret"
                ))
            }),
        InjectionSetting::Basic(user) => {
            let is_user = user.bytes().all(|b| matches!(b, 0x21..=0x7e)) && !user.contains(':');
            let problem = || invalid(format!("{user:?} is not a user name for Basic"));
            is_user
                .then(|| Injection::Basic(user.clone()))
                .ok_or_else(problem)
        }
        InjectionSetting::Query(parameter) => {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            let is_parameter = !parameter.is_empty() && parameter.bytes().all(is_plain);
            let problem = || invalid(format!("{parameter:?} is not a plain parameter name"));
            is_parameter
                .then(|| Injection::Query(parameter.clone()))
                .ok_or_else(problem)
        }
    }
}

fn strip_path(file: &ProxyTables, name: &RouteName, path: &str) -> Result<String, ConfigError> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    let is_path = path.strip_prefix('/').is_some_and(|segments| {
        let mut segments = segments.split('/');
        segments.all(|segment| !segment.is_empty() && segment.bytes().all(is_plain))
    });
    let problem = || format!("{path:?} is not a plain path, such as \"/v1\"");
    is_path
        .then(|| path.to_owned())
        .ok_or_else(|| value_error(file, name, "strip-path", &problem()))
}

fn upstream(
    file: &ProxyTables,
    name: &RouteName,
    url: &str,
    allow_private: bool,
) -> Result<Upstream, ConfigError> {
    Upstream::parse(url, allow_private).map_err(|source| ConfigError::Upstream {
        key: format!("{}: route \"{name}\": upstream", file.path.display()),
        source,
    })
}

fn value_error(file: &ProxyTables, name: &RouteName, key: &str, problem: &str) -> ConfigError {
    ConfigError::Value {
        path: file.path.clone(),
        key: format!("route \"{name}\": {key}"),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests;
