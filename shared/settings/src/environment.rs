//! The environment of a process: its variables and its working directory.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// A snapshot of the process's environment variables and working directory.
///
/// The process's variables are read once, as they cannot change.
#[derive(Clone)]
pub struct Environment {
    variables: BTreeMap<String, Zeroizing<String>>,
    directory: PathBuf,
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
