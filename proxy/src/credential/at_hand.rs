//! The sources whose value is on this machine and needs nobody's help: a
//! variable or a file. They can be looked at before anything starts.

use std::path::PathBuf;

use super::source::CredentialSource;
use crate::secret::{
    Environment, InvalidSecret, Secret, Unavailable, files, is_read_from_dotenv, read_dotenv,
};

/// A variable or a file that holds a credential as it is.
#[derive(Clone, Debug)]
pub(super) enum AtHand {
    /// A variable of the process, which does not change.
    Process {
        variable: String,
        environment: Environment,
    },
    Dotenv {
        variable: String,
        path: PathBuf,
    },
    File {
        path: PathBuf,
    },
}

impl AtHand {
    /// `None` for a command and for a login: the one has to be run, and the
    /// other may have to be renewed.
    pub(super) fn of(source: &CredentialSource, environment: &Environment) -> Option<Self> {
        match source {
            CredentialSource::Environment { variable } => {
                let variable = variable.clone();
                let is_in_process = environment.variable(&variable).is_some();
                if !is_in_process && is_read_from_dotenv(&variable) {
                    let path = environment.dotenv_path();
                    return Some(Self::Dotenv { variable, path });
                }
                let environment = environment.clone();
                Some(Self::Process {
                    variable,
                    environment,
                })
            }
            CredentialSource::Dotenv { variable, file } => Some(Self::Dotenv {
                variable: variable.clone(),
                path: environment.resolve(file),
            }),
            CredentialSource::File { path } => Some(Self::File {
                path: environment.resolve(path),
            }),
            _ => None,
        }
    }

    /// The file that holds the value.
    pub(super) const fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::Process { .. } => None,
            Self::Dotenv { path, .. } | Self::File { path } => Some(path),
        }
    }

    /// The value of now. It may wait for a slow file system.
    pub(super) fn read(&self) -> Result<Secret, Unavailable> {
        match self {
            Self::Process {
                variable,
                environment,
            } => {
                let missing = || {
                    Unavailable::missing(format!("the environment variable {variable} is not set"))
                        .with_hint("set it for the proxy, or name another source")
                };
                let value = environment.variable(variable).ok_or_else(missing)?;
                checked(Secret::new(value), || format!("the variable {variable}"))
            }
            Self::Dotenv { variable, path } => {
                let missing = || {
                    Unavailable::missing(format!("{variable} is not set in {}", path.display()))
                        .with_hint(format!("add a line {variable}=VALUE to the file"))
                };
                let value = read_dotenv(path, variable)?.filter(|value| !value.is_empty());
                let secret = Secret::new(&value.ok_or_else(missing)?);
                checked(secret, || format!("{variable} in {}", path.display()))
            }
            Self::File { path } => {
                let content = files::read_now(path)?;
                checked(Secret::from_output(&content), || {
                    format!("the file {}", path.display())
                })
            }
        }
    }
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
