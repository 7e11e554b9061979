//! OAuth logins kept in a file, their tokens renewed in time.
//!
//! A refresh token is good for one use. So only the holder of a lock uses it,
//! after reading the file again, and what comes back is on disk before it
//! is used. Once an answer has been read, its refresh token is never sent
//! again, also when the file could not be written.

use crate::secret::{Environment, Reason, Secret, Unavailable, files};
use drawbridge_shared::file::{Access, Durability, Replacement};

mod document;
mod endpoint;
mod format;
mod lock;
mod open;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(super) use endpoint::{Connect, DirectConnect};
pub(super) use open::{Context, open};

use self::document::{Document, DocumentError};
use self::endpoint::{Answer, EndpointError, EndpointUrl};
use self::format::{Client, Format, Tokens};
use self::lock::{LockError, LoginLock};
use super::clock::Clock;
use super::state::Value;
use crate::base::chain;

/// A login in a file.
#[derive(Debug)]
pub(super) struct Login {
    format: Format,
    path: PathBuf,
    endpoint: EndpointUrl,
    client_id: String,
    /// The variable that holds the client's secret.
    client_secret: Option<String>,
    environment: Environment,
    connect: Arc<dyn Connect>,
    clock: Clock,
    /// The tokens that were got last.
    issued: Option<Issued>,
    /// A refresh token that the endpoint refused, and what that means.
    refused: Option<(Secret, Unavailable)>,
}

/// New tokens, and those that they took the place of.
#[derive(Debug)]
struct Issued {
    access_before: Option<Secret>,
    refresh_before: Secret,
    answer: Answer,
    answered: SystemTime,
    /// The file has, as far as is known, still the tokens from before.
    is_unsaved: bool,
}

impl Login {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The access token in the file, or a newer one that is not in it yet.
    pub(super) async fn read(&mut self) -> Result<Value, Unavailable> {
        let (_, tokens) = self.read_tokens().await?;
        Ok(match self.newer_than(&tokens) {
            Some(issued) => issued.value(),
            None => self.value(tokens),
        })
    }

    /// Whether there are tokens that have to be written still.
    pub(super) fn is_unsaved(&self) -> bool {
        self.issued.as_ref().is_some_and(|issued| issued.is_unsaved)
    }

    /// Tries again to write tokens that could not be written.
    pub(super) async fn save(&mut self) -> Result<(), Unavailable> {
        let _lock = self.lock().await?;
        self.bring_up_to_date().await.map(|_| ())
    }

    /// Gets a token other than `stale`: the one that another program put into
    /// the file meanwhile, else a new one.
    pub(super) async fn renew(&mut self, stale: Option<&Secret>) -> Result<Value, Unavailable> {
        let _lock = self.lock().await?;
        let (document, tokens) = self.bring_up_to_date().await?;
        let is_good = tokens.expires.is_none_or(|end| self.clock.now() < end);
        if tokens.access.is_some() && tokens.access.as_ref() != stale && is_good {
            return Ok(self.value(tokens));
        }
        let Some(refresh) = tokens.refresh.clone() else {
            return Err(Unavailable::login_refused(format!(
                "the login in {} has ended and has no refresh token",
                self.path.display()
            ))
            .with_hint(self.log_in_again()));
        };
        if let Some((_, problem)) = self.refused.as_ref().filter(|(token, _)| *token == refresh) {
            return Err(problem.clone());
        }
        // A file that cannot be written is noticed before the token is spent.
        let replacement = self.prepare()?;
        let mut answer = self.ask(&refresh, &tokens).await?;
        answer.access = answer.access.with_account(tokens.account);
        let issued = self.issued.insert(Issued {
            access_before: tokens.access,
            refresh_before: refresh,
            answer,
            answered: self.clock.now(),
            is_unsaved: true,
        });
        let reading = issued.value();
        if let Err(problem) = self.write(replacement, document).await {
            tracing::warn!(
                file = %self.path.display(),
                error = %chain(&problem),
                "new tokens are in use but not in the login file; trying again"
            );
        }
        Ok(reading)
    }

    /// Reads the file and, should it have the tokens from before the last
    /// renewal, writes the newer ones into it: they could not be written, or
    /// another program has put its old copy back.
    async fn bring_up_to_date(&mut self) -> Result<(Document, Tokens), Unavailable> {
        let (document, tokens) = self.read_tokens().await?;
        if self.newer_than(&tokens).is_none() {
            return Ok((document, tokens));
        }
        let replacement = self.prepare()?;
        self.write(replacement, document).await?;
        self.read_tokens().await
    }

    /// The tokens that were got last, if `tokens`, those in the file, are the
    /// ones that they took the place of.
    fn newer_than(&mut self, tokens: &Tokens) -> Option<&Issued> {
        let issued = self.issued.as_mut()?;
        issued.is_unsaved = issued.access_before == tokens.access
            && Some(&issued.refresh_before) == tokens.refresh.as_ref();
        issued.is_unsaved.then_some(issued)
    }

    async fn ask(&mut self, refresh: &Secret, tokens: &Tokens) -> Result<Answer, Unavailable> {
        let secret = match &self.client_secret {
            Some(variable) => Some(self.client_secret(variable)?),
            None => None,
        };
        let client = Client {
            id: tokens.client_id.as_deref().unwrap_or(&self.client_id),
            secret: secret.as_ref(),
            scope: tokens.scope.as_deref(),
        };
        let (content_type, body) = self.format.request(refresh, &client);
        endpoint::exchange(&*self.connect, &self.endpoint, content_type, body)
            .await
            .map_err(|error| self.explain(error))
            .inspect_err(|problem| {
                if problem.reason() == Reason::LoginRefused {
                    self.refused = Some((refresh.clone(), problem.clone()));
                }
            })
    }

    fn client_secret(&self, variable: &str) -> Result<Secret, Unavailable> {
        let missing = || Unavailable::missing(format!("the variable {variable} is not set"));
        let value = self.environment.variable(variable).ok_or_else(missing)?;
        Secret::new(value)
            .map_err(|error| Unavailable::broken(format!("{variable} is not usable"), error))
    }

    fn explain(&self, error: EndpointError) -> Unavailable {
        let endpoint = &self.endpoint;
        match error {
            EndpointError::Refused { .. } => Unavailable::login_refused(format!(
                "the token endpoint {endpoint} refused the login in {}",
                self.path.display()
            ))
            .with_cause(error)
            .with_hint(self.log_in_again()),
            EndpointError::Failed { retry_after, .. } => Unavailable::outage(
                format!("the token endpoint {endpoint} fails"),
                retry_after.unwrap_or_default(),
                error,
            ),
            _ => Unavailable::outage(
                format!("no new token from the token endpoint {endpoint}"),
                Duration::ZERO,
                error,
            ),
        }
    }

    fn log_in_again(&self) -> String {
        match self.format {
            Format::Claude => "log in again with `claude`, then `/login`".to_owned(),
            Format::Codex => "log in again with `codex login`".to_owned(),
            Format::Plain => format!("put a new refresh_token into {}", self.path.display()),
        }
    }

    async fn lock(&self) -> Result<LoginLock, Unavailable> {
        let acquired = LoginLock::acquire(self.format, &self.path).await;
        acquired.map_err(|error| match error {
            LockError::Held(_) => Unavailable::outage(
                format!("the login in {} is in use", self.path.display()),
                Duration::ZERO,
                error,
            ),
            LockError::Io(..) => self.broken(error),
        })
    }

    async fn read_tokens(&self) -> Result<(Document, Tokens), Unavailable> {
        let content = files::read(&self.path).await?;
        let read = |content: &[u8]| -> Result<_, DocumentError> {
            let document = Document::parse(content)?;
            let tokens = self.format.read(&document)?;
            Ok((document, tokens))
        };
        read(&content).map_err(|error| self.broken(error))
    }

    fn prepare(&self) -> Result<Replacement, Unavailable> {
        // A link is followed: its target is replaced.
        std::fs::canonicalize(&self.path)
            .and_then(|path| Replacement::prepare(&path, Access::Kept { new: 0o600 }))
            .map_err(|error| self.not_writable(error))
    }

    /// Puts the tokens that were got last into the file.
    async fn write(
        &mut self,
        replacement: Replacement,
        mut document: Document,
    ) -> Result<(), Unavailable> {
        let Some(issued) = &self.issued else {
            return Ok(());
        };
        self.format
            .update(&mut document, &issued.answer, issued.answered)
            .map_err(|error| self.broken(error))?;
        let content = document.to_bytes();
        // Waiting for the disk would hold up the requests of this thread; and
        // a runtime that is shut down waits for a write that has begun.
        tokio::task::spawn_blocking(move || replacement.write(&content, Durability::Synced))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|error| self.not_writable(error))?;
        if let Some(issued) = &mut self.issued {
            issued.is_unsaved = false;
        }
        Ok(())
    }

    fn value(&self, tokens: Tokens) -> Value {
        let access = tokens
            .access
            .map(|access| access.with_account(tokens.account));
        Value::token(access, tokens.expires, self.clock.now())
    }

    fn broken(&self, error: impl std::error::Error + Send + Sync + 'static) -> Unavailable {
        let message = format!("the login in {} is not usable", self.path.display());
        Unavailable::broken(message, error).with_hint(self.log_in_again())
    }

    fn not_writable(&self, error: std::io::Error) -> Unavailable {
        let message = format!("cannot write the login to {}", self.path.display());
        Unavailable::broken(message, error)
            .with_hint("make the file and its folder writable for the proxy's user")
    }
}

impl Issued {
    fn value(&self) -> Value {
        let answer = &self.answer;
        let expires = answer
            .expires_in
            .and_then(|after| self.answered.checked_add(after))
            .or_else(|| format::expiry_of_jwt(&answer.access));
        Value::token(Some(answer.access.clone()), expires, self.answered)
    }
}
