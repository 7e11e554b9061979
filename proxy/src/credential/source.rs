//! Where a credential comes from, as `drawbridge.toml` says it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use drawbridge_shared::env::{ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, CLAUDE_CODE_OAUTH_TOKEN};
use drawbridge_shared::protocol::AuthMode;
use serde::Deserialize;

use crate::base::period;
use crate::secret::{Environment, Unavailable, read_dotenv, setting};

/// Where a credential comes from: the `credential` table of a route.
///
/// ```toml
/// credential = { source = "environment", variable = "OPENAI_API_KEY" }
/// ```
///
/// Paths may begin with `~/`; relative ones start from the working directory.
/// Times are texts such as `"90s"`, `"10m"` or `"2h"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(
    tag = "source",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
pub enum CredentialSource {
    /// An environment variable of the proxy. Anthropic's variables may also
    /// come from the `.env` file in the working directory.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A variable in a `.env` file.
    Dotenv {
        /// Its name.
        variable: String,
        /// The file; `.env` in the working directory when absent.
        #[serde(default = "default_dotenv")]
        file: PathBuf,
    },
    /// The whole content of a file, without the line end.
    File {
        /// The file.
        path: PathBuf,
    },
    /// Output of a program on the host, without the line end.
    Command {
        /// The program and its arguments; no shell reads them.
        command: Vec<String>,
        /// Time for which the output is used before the program is run again.
        #[serde(default = "default_lifetime", deserialize_with = "period::deserialize")]
        lifetime: Duration,
        /// Longest time of the program.
        #[serde(default = "default_timeout", deserialize_with = "period::deserialize")]
        timeout: Duration,
    },
    /// Claude Code's login, kept fresh together with it.
    ClaudeLogin {
        /// The login file; `.credentials.json` in Claude Code's configuration
        /// folder (`$CLAUDE_CONFIG_DIR`, else `~/.claude`) when absent.
        #[serde(default)]
        path: Option<PathBuf>,
        /// Where tokens are renewed; Anthropic's endpoint when absent.
        #[serde(default)]
        token_endpoint: Option<String>,
    },
    /// Codex's login, kept fresh together with it; the API key in the same
    /// file when Codex was given one instead.
    CodexLogin {
        /// The login file; `auth.json` in Codex's folder (`$CODEX_HOME`, else
        /// `~/.codex`) when absent.
        #[serde(default)]
        path: Option<PathBuf>,
        /// Where tokens are renewed; OpenAI's endpoint when absent.
        #[serde(default)]
        token_endpoint: Option<String>,
    },
    /// Any OAuth login that a refresh token renews (RFC 6749, section 6).
    Oauth {
        /// A JSON file with `refresh_token`, and `access_token` and
        /// `expires_at` (Unix seconds) once there has been a renewal.
        path: PathBuf,
        /// Where tokens are renewed.
        token_endpoint: String,
        /// The client the login was made for.
        client_id: String,
        /// The environment variable with the client's secret, if it has one.
        #[serde(default)]
        client_secret_variable: Option<String>,
    },
}

fn default_dotenv() -> PathBuf {
    PathBuf::from(".env")
}

const fn default_lifetime() -> Duration {
    Duration::from_secs(60 * 60)
}

const fn default_timeout() -> Duration {
    Duration::from_secs(30)
}

/// The credential of the Anthropic API when none is configured, by NanoClaw's
/// rule: an API key if there is one, else an OAuth token.
///
/// # Errors
/// No variable is set, or the `.env` file cannot be read.
pub fn anthropic_default(
    environment: &Environment,
) -> Result<(AuthMode, CredentialSource), Unavailable> {
    const ORDER: [(&str, AuthMode); 3] = [
        (ANTHROPIC_API_KEY, AuthMode::ApiKey),
        (CLAUDE_CODE_OAUTH_TOKEN, AuthMode::Oauth),
        (ANTHROPIC_AUTH_TOKEN, AuthMode::Oauth),
    ];
    for (variable, mode) in ORDER {
        if setting(environment, variable)?.is_some() {
            let variable = variable.to_owned();
            return Ok((mode, CredentialSource::Environment { variable }));
        }
    }
    let names = ORDER.map(|(name, _)| name).join(", ");
    let dotenv = environment.dotenv_path();
    Err(Unavailable::missing(format!(
        "no credential for the Anthropic API: none of {names} is set in the environment or in {}",
        dotenv.display()
    ))
    .with_hint(
        "set one of them, or name another source under `credential` in drawbridge.toml, \
         for example { source = \"claude-login\" }",
    ))
}

/// The credential that a vendor's own variable holds, in the environment or
/// else in the `.env` file of the working directory.
///
/// # Errors
/// It is set in neither, or the `.env` file cannot be read.
pub(crate) fn variable_default(
    environment: &Environment,
    variable: &str,
) -> Result<CredentialSource, Unavailable> {
    let file = environment.dotenv_path();
    let name = variable.to_owned();
    if environment.variable(variable).is_some() {
        return Ok(CredentialSource::Environment { variable: name });
    }
    if read_dotenv(&file, variable)?.is_some_and(|value| !value.is_empty()) {
        return Ok(CredentialSource::Dotenv {
            variable: name,
            file,
        });
    }
    Err(Unavailable::missing(format!(
        "{variable} is not set in the environment or in {}",
        file.display()
    ))
    .with_hint("set it, or name another source under `credential` in drawbridge.toml"))
}

/// The source's name for messages; it holds no secret.
impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Dotenv { variable, file } => write!(f, "{variable} in {}", file.display()),
            Self::File { path } => write!(f, "file {}", path.display()),
            Self::Command { command, .. } => {
                write!(f, "command {}", command.first().map_or("", String::as_str))
            }
            Self::ClaudeLogin { .. } => f.write_str("Claude login"),
            Self::CodexLogin { .. } => f.write_str("Codex login"),
            Self::Oauth { path, .. } => write!(f, "OAuth login in {}", path.display()),
        }
    }
}
