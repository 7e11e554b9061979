//! Why there is no credential to inject.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// There is no credential, and why. It never holds a part of one.
///
/// It can be cloned, as many requests may wait for one answer.
#[derive(Clone, Debug)]
pub struct Unavailable {
    reason: Reason,
    message: String,
    cause: Option<Arc<dyn Error + Send + Sync>>,
    hint: Option<String>,
}

/// Kind of the failure, which says who can end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is configured, or what is configured does not exist.
    Missing,
    /// The source exists but what it gave is not usable.
    Broken,
    /// The vendor refused the login; only a new login helps.
    LoginRefused,
    /// The vendor cannot be reached or fails; it passes by itself.
    Outage {
        /// When the next attempt is due, counted from the failed one.
        retry_after: Duration,
    },
}

impl Unavailable {
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(Reason::Missing, message.into(), None)
    }

    pub(crate) fn broken(
        message: impl Into<String>,
        cause: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::new(Reason::Broken, message.into(), Some(Arc::new(cause)))
    }

    pub(crate) fn login_refused(message: impl Into<String>) -> Self {
        Self::new(Reason::LoginRefused, message.into(), None)
    }

    pub(crate) fn outage(
        message: impl Into<String>,
        retry_after: Duration,
        cause: impl Error + Send + Sync + 'static,
    ) -> Self {
        let reason = Reason::Outage { retry_after };
        Self::new(reason, message.into(), Some(Arc::new(cause)))
    }

    fn new(reason: Reason, message: String, cause: Option<Arc<dyn Error + Send + Sync>>) -> Self {
        Self {
            reason,
            message,
            cause,
            hint: None,
        }
    }

    #[must_use]
    pub(crate) fn with_cause(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }

    /// Moves the next attempt in an outage to `delay` from now, unless the
    /// vendor asked for a longer wait.
    #[must_use]
    pub(crate) fn retried_after(mut self, delay: Duration) -> Self {
        if let Reason::Outage { retry_after } = &mut self.reason {
            *retry_after = delay.max(*retry_after);
        }
        self
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Kind of the failure.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Fix for the reader of the message.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Unavailable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Some(cause) => Some(&**cause),
            None => None,
        }
    }
}
