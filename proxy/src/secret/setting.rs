//! Values that come from the environment, else from the `.env` file.

use std::fmt;
use std::path::{Path, PathBuf};

use drawbridge_settings::Environment;
use drawbridge_shared::env::{
    ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, ANTHROPIC_BASE_URL, CLAUDE_CODE_OAUTH_TOKEN,
};
use zeroize::Zeroizing;

use super::unavailable::Unavailable;
use super::{dotenv, files};

/// A value of the environment, and where it was found.
pub(crate) struct Setting {
    /// The value; never empty.
    pub(crate) value: Zeroizing<String>,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

/// Where a [`Setting`] was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The process's environment.
    Process,
    /// This `.env` file.
    Dotenv(PathBuf),
}

/// A variable of the process, else of the `.env` file.
///
/// Only Anthropic's four variables and those that start with
/// `CREDENTIAL_PROXY_` are looked for in the file.
///
/// # Errors
/// The `.env` file exists but cannot be read.
pub(crate) fn setting(
    environment: &Environment,
    name: &str,
) -> Result<Option<Setting>, Unavailable> {
    if let Some(value) = environment.variable(name) {
        return Ok(Some(Setting {
            value: Zeroizing::new(value.to_owned()),
            origin: Origin::Process,
        }));
    }
    if !is_read_from_dotenv(name) {
        return Ok(None);
    }
    let path = environment.dotenv_path();
    let value = read_dotenv(&path, name)?.filter(|value| !value.is_empty());
    Ok(value.map(|value| Setting {
        value,
        origin: Origin::Dotenv(path),
    }))
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting")
            .field("value", &"[REDACTED]")
            .field("origin", &self.origin)
            .finish()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => f.write_str("the environment"),
            Self::Dotenv(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Whether a variable may come from the working directory's `.env`.
#[must_use]
pub fn is_read_from_dotenv(name: &str) -> bool {
    const ANTHROPIC: [&str; 4] = [
        ANTHROPIC_API_KEY,
        CLAUDE_CODE_OAUTH_TOKEN,
        ANTHROPIC_AUTH_TOKEN,
        ANTHROPIC_BASE_URL,
    ];
    ANTHROPIC.contains(&name) || name.starts_with("CREDENTIAL_PROXY_")
}

/// One variable of a `.env` file; a file that does not exist has none.
pub(crate) fn read_dotenv(
    path: &Path,
    name: &str,
) -> Result<Option<Zeroizing<String>>, Unavailable> {
    let Some(text) = files::read_if_exists(path)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&text)
        .map_err(|error| Unavailable::broken(format!("{} is not UTF-8", path.display()), error))?;
    let mut variables = dotenv::parse(text, |candidate| candidate == name)
        .map_err(|error| Unavailable::broken(format!("cannot read {}", path.display()), error))?;
    Ok(variables.remove(name))
}
