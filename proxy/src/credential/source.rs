//! Where a credential comes from, as `drawbridge.toml` says it.

use std::fmt;
use std::path::PathBuf;

use drawbridge_shared::env::{ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, CLAUDE_CODE_OAUTH_TOKEN};
use drawbridge_shared::protocol::AuthMode;
use serde::Deserialize;

use super::environment::Environment;
use super::error::Unavailable;

/// Where a credential comes from: the `credential` table of a route.
///
/// ```toml
/// credential = { source = "environment", variable = "OPENAI_API_KEY" }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case", deny_unknown_fields)]
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
        #[serde(default = "dotenv_in_working_directory")]
        file: PathBuf,
    },
    /// The whole content of a file, without the line end.
    File {
        /// The file.
        path: PathBuf,
    },
}

fn dotenv_in_working_directory() -> PathBuf {
    PathBuf::from(".env")
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
        if environment.setting(variable)?.is_some() {
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

/// The source's name for messages; it holds no secret.
impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Dotenv { variable, file } => write!(f, "{variable} in {}", file.display()),
            Self::File { path } => write!(f, "file {}", path.display()),
        }
    }
}
