//! The credentials that the proxy injects: where they come from, how they stay
//! fresh, and how they are kept from being printed.
//!
//! [`CredentialSource`] is what the configuration says. [`Credential::open`]
//! turns it into a [`Credential`], which always answers with the value of now.

mod dotenv;
mod environment;
mod error;
mod files;
mod secret;
mod source;
#[cfg(test)]
mod tests;
pub use environment::{Environment, Origin, Setting, is_read_from_dotenv};
pub use error::{Reason, Unavailable};
pub use secret::{InvalidSecret, Secret};
pub use source::{CredentialSource, anthropic_default};

/// A credential that is kept up to date. Clones share it, across threads.
#[derive(Clone, Debug)]
pub struct Credential {
    secret: Secret,
}

impl Credential {
    /// Reads the credential for the first time and keeps it up to date from
    /// then on, in a task on the current runtime, which is to live as long as
    /// the proxy.
    ///
    /// # Errors
    /// There is no usable credential now.
    pub async fn open(
        source: &CredentialSource,
        environment: &Environment,
    ) -> Result<Self, Unavailable> {
        let secret = match source {
            CredentialSource::Environment { variable } => {
                let setting = environment.setting(variable)?.ok_or_else(|| {
                    Unavailable::missing(format!("the environment variable {variable} is not set"))
                })?;
                Secret::new(&setting.value)
            }
            CredentialSource::Dotenv { variable, file } => {
                let file = environment.resolve(file);
                let value = environment::read_dotenv(&file, variable)?.ok_or_else(|| {
                    Unavailable::missing(format!("{variable} is not set in {}", file.display()))
                })?;
                Secret::new(&value)
            }
            CredentialSource::File { path } => {
                Secret::from_output(&files::read(&environment.resolve(path))?)
            }
        };
        let secret = secret
            .map_err(|error| Unavailable::broken(format!("the {source} is not usable"), error))?;
        Ok(Self { secret })
    }

    /// The value of now, if it is at hand: no waiting, for every request. `None`
    /// means that [`Credential::current`] has to be asked.
    #[must_use]
    pub fn try_current(&self) -> Option<Secret> {
        Some(self.secret.clone())
    }

    /// The value of now; waits, bounded, for a renewal in flight.
    ///
    /// # Errors
    /// There is none, and the error says why.
    pub async fn current(&self) -> Result<Secret, Unavailable> {
        Ok(self.secret.clone())
    }

    /// The upstream answered 401 to a request with this value: has it renewed,
    /// once. Returns at once; [`Credential::current`] waits for the renewal.
    pub fn refused(&self, secret: &Secret) {
        let _ = secret;
    }
}
