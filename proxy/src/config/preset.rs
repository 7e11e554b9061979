//! Routes that are known by name.

use drawbridge_shared::env::{ANTHROPIC_BASE_URL, CLAUDE_CODE_OAUTH_TOKEN};
use drawbridge_shared::protocol::AuthMode;
use http::HeaderName;

use super::{ConfigError, Environment, Injection, RouteConfig};
use crate::credential::{CredentialSource, anthropic_default};
use crate::route::{ErrorShape, RouteName, Rule};
use crate::upstream::Upstream;

const ANTHROPIC_API: &str = "https://api.anthropic.com";

/// The Anthropic API with what the environment holds: an API key, else an OAuth
/// token, else the bearer token of a compatible gateway.
pub(super) fn anthropic(env: &Environment) -> Result<RouteConfig, ConfigError> {
    let url = env.setting(ANTHROPIC_BASE_URL)?.map(|found| found.value);
    let url = url.as_ref().map_or(ANTHROPIC_API, |url| url.as_str());
    let found = anthropic_default(env);
    let mode = found.as_ref().map_or(AuthMode::ApiKey, |(mode, _)| *mode);
    let credential = found.map(|(_, source)| source);
    Ok(RouteConfig {
        name: name("anthropic")?,
        upstream: Upstream::parse(url, false).map_err(|source| ConfigError::Upstream {
            key: ANTHROPIC_BASE_URL.to_owned(),
            source,
        })?,
        injection: match mode {
            AuthMode::Oauth => Injection::Bearer,
            AuthMode::ApiKey => Injection::Header(HeaderName::from_static("x-api-key")),
        },
        allow: rules(&[
            "POST /v1/messages",
            "POST /v1/messages/count_tokens",
            "GET /v1/models",
            "GET /v1/models/*",
        ])?,
        answered_heads: vec!["/", "/api/hello"],
        error_shape: ErrorShape::Anthropic,
        is_metered: true,
        adds_oauth_beta: credential.as_ref().is_ok_and(is_anthropic_oauth),
        credential,
    })
}

/// Whether the credential is an OAuth token of Anthropic's. A gateway's own
/// bearer token is not, and the gateway may not know the beta.
fn is_anthropic_oauth(source: &CredentialSource) -> bool {
    match source {
        CredentialSource::Environment { variable } => variable == CLAUDE_CODE_OAUTH_TOKEN,
        _ => false,
    }
}

fn name(text: &str) -> Result<RouteName, ConfigError> {
    text.parse().map_err(ConfigError::RouteName)
}

fn rules(texts: &[&str]) -> Result<Vec<Rule>, ConfigError> {
    let rules = texts.iter().map(|text| text.parse());
    rules.collect::<Result<_, _>>().map_err(ConfigError::Rule)
}
