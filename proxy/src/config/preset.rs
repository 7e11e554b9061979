//! Routes that are known by name: where they lead, how they take a credential,
//! and the little that is allowed on them unless the configuration says more.
//!
//! What creates or shows credentials, such as keys and token exchanges, is not
//! in these lists, and neither is what could carry data to another account,
//! such as Anthropic's `/v1/files`.

use drawbridge_shared::env::{ANTHROPIC_API_KEY, CLAUDE_CODE_OAUTH_TOKEN};
use http::HeaderName;

use super::Injection;
use super::file::Preset;
use crate::policy::ErrorShape;

/// Paths that Claude Code checks for a connection, without a credential.
const CONNECTION_CHECKS: &[&str] = &["/", "/api/hello"];

/// The defaults of a preset.
pub(super) struct Defaults {
    pub(super) name: &'static str,
    pub(super) upstream: &'static str,
    /// Environment variable of the credential; Anthropic has a rule of its own.
    pub(super) variable: Option<&'static str>,
    pub(super) injection: fn() -> Injection,
    pub(super) allow: &'static [&'static str],
    pub(super) answered_heads: &'static [&'static str],
    pub(super) error_shape: ErrorShape,
    pub(super) is_metered: bool,
}

pub(super) const ANTHROPIC: Defaults = Defaults {
    name: "anthropic",
    upstream: "https://api.anthropic.com",
    variable: None,
    injection: || Injection::Header(HeaderName::from_static("x-api-key")),
    allow: &[
        "POST /v1/messages",
        "POST /v1/messages/count_tokens",
        "GET /v1/models",
        "GET /v1/models/*",
    ],
    answered_heads: CONNECTION_CHECKS,
    error_shape: ErrorShape::Anthropic,
    is_metered: true,
};

const OPENAI: Defaults = Defaults {
    name: "openai",
    upstream: "https://api.openai.com",
    variable: Some("OPENAI_API_KEY"),
    injection: || Injection::Bearer,
    allow: &[
        "POST /v1/responses",
        "GET /v1/responses/*",
        "POST /v1/responses/*/cancel",
        "POST /v1/chat/completions",
        "GET /v1/models",
        "GET /v1/models/*",
    ],
    answered_heads: &[],
    error_shape: ErrorShape::OpenAi,
    is_metered: true,
};

const GEMINI: Defaults = Defaults {
    name: "gemini",
    upstream: "https://generativelanguage.googleapis.com",
    variable: Some("GEMINI_API_KEY"),
    injection: || Injection::Header(HeaderName::from_static("x-goog-api-key")),
    allow: &[
        "POST /*/models/*:generateContent",
        "POST /*/models/*:streamGenerateContent",
        "POST /*/models/*:countTokens",
        "GET /*/models",
        "GET /*/models/*",
    ],
    answered_heads: &[],
    error_shape: ErrorShape::Gemini,
    is_metered: true,
};

/// GitHub's REST API: reading, and writing issues and pull requests.
const GITHUB: Defaults = Defaults {
    name: "github",
    upstream: "https://api.github.com",
    variable: Some("GITHUB_TOKEN"),
    injection: || Injection::Bearer,
    allow: &[
        "GET,HEAD /repos/**",
        "GET,HEAD /search/**",
        "GET,HEAD /orgs/**",
        "GET,HEAD /users/**",
        "GET,HEAD /user",
        "GET,HEAD /rate_limit",
        "POST /repos/*/*/issues",
        "POST,PATCH,PUT,DELETE /repos/*/*/issues/**",
        "POST /repos/*/*/pulls",
        "POST,PATCH,PUT /repos/*/*/pulls/**",
    ],
    answered_heads: &[],
    error_shape: ErrorShape::GitHub,
    is_metered: false,
};

/// Git over HTTPS: fetching and pushing.
pub(super) const GITHUB_GIT: Defaults = Defaults {
    name: "github-git",
    upstream: "https://github.com",
    variable: Some("GITHUB_TOKEN"),
    injection: || Injection::Basic("x-access-token".to_owned()),
    allow: &[
        "GET /*/*/info/refs",
        "POST /*/*/git-upload-pack",
        "POST /*/*/git-receive-pack",
    ],
    answered_heads: &[],
    error_shape: ErrorShape::GitHub,
    is_metered: false,
};

impl Preset {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Anthropic,
        Self::Openai,
        Self::Gemini,
        Self::Github,
        Self::Generic,
    ];

    /// Name of the route, unless the configuration gives another; a generic
    /// route has none.
    #[must_use]
    pub const fn route_name(self) -> Option<&'static str> {
        match self.defaults() {
            Some(defaults) => Some(defaults.name),
            None => None,
        }
    }

    /// Environment variables that hold its credential by default.
    #[must_use]
    pub const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Anthropic => &[ANTHROPIC_API_KEY, CLAUDE_CODE_OAUTH_TOKEN],
            Self::Openai => &["OPENAI_API_KEY"],
            Self::Gemini => &["GEMINI_API_KEY"],
            Self::Github => &["GITHUB_TOKEN"],
            Self::Generic => &[],
        }
    }

    /// The preset's defaults; a generic route has none.
    pub(super) const fn defaults(self) -> Option<&'static Defaults> {
        match self {
            Self::Anthropic => Some(&ANTHROPIC),
            Self::Openai => Some(&OPENAI),
            Self::Gemini => Some(&GEMINI),
            Self::Github => Some(&GITHUB),
            Self::Generic => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Rule;

    #[test]
    fn presets_hold_valid_names_rules_and_upstreams() {
        for preset in [&ANTHROPIC, &OPENAI, &GEMINI, &GITHUB, &GITHUB_GIT] {
            preset.name.parse::<crate::policy::RouteName>().unwrap();
            crate::upstream::Upstream::parse(preset.upstream, false).unwrap();
            for rule in preset.allow {
                rule.parse::<Rule>().unwrap();
            }
        }
    }

    #[test]
    fn class_20_no_preset_allows_what_makes_credentials() {
        let rules = |preset: &Defaults| -> Vec<Rule> {
            preset
                .allow
                .iter()
                .map(|rule| rule.parse().unwrap())
                .collect()
        };
        for (preset, method, path) in [
            (&ANTHROPIC, "POST", "/v1/oauth/token"),
            (&ANTHROPIC, "POST", "/api/oauth/claude_cli/create_api_key"),
            (&ANTHROPIC, "POST", "/v1/organizations/api_keys"),
            (&ANTHROPIC, "POST", "/v1/files"),
            (&OPENAI, "POST", "/v1/organization/admin_api_keys"),
            (&OPENAI, "POST", "/v1/realtime/client_secrets"),
            (&OPENAI, "POST", "/v1/files"),
            (&GEMINI, "POST", "/v1beta/authTokens"),
            (&GEMINI, "POST", "/v1alpha/auth_tokens"),
            (&GITHUB, "POST", "/user/keys"),
            (&GITHUB, "POST", "/repos/o/r/keys"),
            (&GITHUB, "POST", "/app/installations/1/access_tokens"),
            (
                &GITHUB,
                "POST",
                "/repos/o/r/actions/runners/registration-token",
            ),
            (&GITHUB, "POST", "/authorizations"),
            (&GITHUB, "PUT", "/repos/o/r/actions/secrets/x"),
            (&GITHUB_GIT, "POST", "/login/oauth/access_token"),
        ] {
            let method = http::Method::from_bytes(method.as_bytes()).unwrap();
            let is_allowed = rules(preset).iter().any(|rule| rule.allows(&method, path));
            assert!(!is_allowed, "{}: {method} {path}", preset.name);
        }
    }
}
