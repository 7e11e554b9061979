//! What a program finds around it: its environment variables, its working
//! directory and the `.env` file there.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use drawbridge_shared::env::{
    ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, ANTHROPIC_BASE_URL, CLAUDE_CODE_OAUTH_TOKEN,
};
use zeroize::Zeroizing;

use super::unavailable::Unavailable;
use super::{dotenv, files};

/// A snapshot of the process's environment variables and working directory.
///
/// The process's variables are read once, as they cannot change. The `.env`
/// file can, so it is read each time it is asked for.
#[derive(Clone)]
pub struct Environment {
    variables: BTreeMap<String, Zeroizing<String>>,
    directory: PathBuf,
}

/// A value of the environment, and where it was found.
pub struct Setting {
    /// The value; never empty.
    pub value: Zeroizing<String>,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a [`Setting`] was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The process's environment.
    Process,
    /// This `.env` file.
    Dotenv(PathBuf),
}

impl Environment {
    /// Takes the snapshot of this process.
    ///
    /// # Errors
    /// The working directory cannot be determined.
    pub fn observe() -> io::Result<Self> {
        let directory = std::env::current_dir()?;
        let variables = std::env::vars_os().map(|(name, value)| {
            // What is not Unicode is no valid credential, and is refused as such.
            let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
            (text(name), text(value))
        });
        Ok(Self::new(variables, directory))
    }

    /// An environment of exactly these variables.
    pub fn new<N: Into<String>, V: Into<String>>(
        variables: impl IntoIterator<Item = (N, V)>,
        directory: impl Into<PathBuf>,
    ) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), Zeroizing::new(value.into())))
            .collect();
        Self {
            variables,
            directory: directory.into(),
        }
    }

    /// The directory that relative paths start from.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A variable of the process; one that is set but empty counts as not set.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// The `.env` file of the working directory, whether it exists or not.
    #[must_use]
    pub fn dotenv_path(&self) -> PathBuf {
        self.directory.join(".env")
    }

    /// A variable of the process, else of the `.env` file.
    ///
    /// Only Anthropic's four variables and those that start with
    /// `CREDENTIAL_PROXY_` are looked for in the file.
    ///
    /// # Errors
    /// The `.env` file exists but cannot be read.
    pub fn setting(&self, name: &str) -> Result<Option<Setting>, Unavailable> {
        if let Some(value) = self.variable(name) {
            return Ok(Some(Setting {
                value: Zeroizing::new(value.to_owned()),
                origin: Origin::Process,
            }));
        }
        if !is_read_from_dotenv(name) {
            return Ok(None);
        }
        let path = self.dotenv_path();
        let value = read_dotenv(&path, name)?.filter(|value| !value.is_empty());
        Ok(value.map(|value| Setting {
            value,
            origin: Origin::Dotenv(path),
        }))
    }

    /// A path of the configuration: `~/` is the home folder, and a relative
    /// path starts from the working directory.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), self.variable("HOME")) {
            (Ok(below), Some(home)) => Path::new(home).join(below),
            _ => self.directory.join(path),
        }
    }
}

/// Names only: a value may be a credential.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .field("directory", &self.directory)
            .finish()
    }
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
