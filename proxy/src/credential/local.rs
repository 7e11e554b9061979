//! Sources whose value is on this machine and needs neither a program nor a
//! vendor: a variable or a file. They can be validated before anything starts.

use std::path::{Path, PathBuf};

use super::source::CredentialSource;
use crate::secret::{
    Environment, InvalidSecret, Secret, Unavailable, files, is_read_from_dotenv, read_dotenv,
};

impl CredentialSource {
    /// The file that holds the value as it is, if one does.
    pub(super) fn local_file(&self, environment: &Environment) -> Option<PathBuf> {
        match self {
            Self::Environment { variable } => {
                let is_in_process = environment.variable(variable).is_some();
                let is_in_file = !is_in_process && is_read_from_dotenv(variable);
                is_in_file.then(|| environment.dotenv_path())
            }
            Self::Dotenv { file, .. } => Some(environment.resolve(file)),
            Self::File { path } => Some(environment.resolve(path)),
            _ => None,
        }
    }

    /// Whether the value is a variable of the process, which does not change.
    pub(super) fn is_fixed(&self, environment: &Environment) -> bool {
        matches!(self, Self::Environment { .. }) && self.local_file(environment).is_none()
    }

    /// Whether the value can be read here: a command has to be run, and an OAuth
    /// token file may have to be refreshed.
    pub(super) const fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Environment { .. } | Self::Dotenv { .. } | Self::File { .. }
        )
    }

    /// The present value of a local source. It may wait for a slow file system.
    pub(super) fn read_local(&self, environment: &Environment) -> Result<Secret, Unavailable> {
        match (self, self.local_file(environment)) {
            (Self::Environment { variable }, None) => read_variable(variable, environment),
            (Self::Environment { variable } | Self::Dotenv { variable, .. }, Some(path)) => {
                read_from_dotenv(variable, &path)
            }
            (Self::File { .. }, Some(path)) => read_file(&path),
            _ => Err(Unavailable::missing(format!("the {self} holds no value"))),
        }
    }
}

fn read_variable(variable: &str, environment: &Environment) -> Result<Secret, Unavailable> {
    let value = environment.variable(variable).ok_or_else(|| {
        Unavailable::missing(format!("the environment variable {variable} is not set"))
            .with_hint("set it for the proxy, or name another source")
    })?;
    checked(Secret::new(value), || format!("the variable {variable}"))
}

fn read_from_dotenv(variable: &str, path: &Path) -> Result<Secret, Unavailable> {
    let value = read_dotenv(path, variable)?.filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| {
        Unavailable::missing(format!("{variable} is not set in {}", path.display()))
            .with_hint(format!("add a line {variable}=VALUE to the file"))
    })?;
    checked(Secret::new(&value), || {
        format!("{variable} in {}", path.display())
    })
}

fn read_file(path: &Path) -> Result<Secret, Unavailable> {
    let content = files::read_now(path)?;
    checked(Secret::from_output(&content), || {
        format!("the file {}", path.display())
    })
}

fn checked(
    secret: Result<Secret, InvalidSecret>,
    place: impl FnOnce() -> String,
) -> Result<Secret, Unavailable> {
    secret.map_err(|error| {
        Unavailable::broken(format!("{} is not a credential", place()), error)
            .with_hint("set it again, as one line of printable ASCII without outer spaces")
    })
}
