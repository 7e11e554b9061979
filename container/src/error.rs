//! The error of a command that cannot do its work.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use drawbridge_proxy::hint_of;
use drawbridge_shared::chain::chain;
use drawbridge_shared::exit::Exit;

/// A failed command: whose fault it was, what happened, and the way out.
///
/// The message is a lower-case fragment that names the thing it is about. The
/// cause is kept apart and printed behind it, the hint on a line of its own.
#[derive(Debug)]
pub(crate) struct Error {
    exit: Exit,
    message: String,
    hint: Option<String>,
    /// There is no room now, and there will be later.
    is_full: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Result of a step of a command.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error that ends the program with `exit`.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
            is_full: false,
            source: None,
        }
    }

    /// The command line or the configuration is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something a run needs is missing or refused, and nothing was started.
    pub(crate) fn not_started(message: impl Into<String>) -> Self {
        Self::new(Exit::NotStarted, message)
    }

    /// The engine, the host or the proxy failed.
    pub(crate) fn infrastructure(message: impl Into<String>) -> Self {
        Self::new(Exit::Infrastructure, message)
    }

    /// The agent failed, or what it was asked to do.
    pub(crate) fn agent(message: impl Into<String>) -> Self {
        Self::new(Exit::AgentFailed, message)
    }

    /// There is no room now, and there will be later.
    pub(crate) fn full(message: impl Into<String>) -> Self {
        Self {
            is_full: true,
            ..Self::new(Exit::NotStarted, message)
        }
    }

    /// Whether the same may work later, without anybody doing anything.
    #[must_use]
    pub(crate) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Adds the way out.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what caused it. A way out that the cause names is closer than ours.
    #[must_use]
    pub(crate) fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let cause = cause.into();
        self.hint = hint_of(&*cause).map(Cow::into_owned).or(self.hint);
        self.source = Some(cause);
        self
    }

    /// The exit code of the program.
    #[must_use]
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// The way out, when one is known.
    #[must_use]
    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message with its causes, in one line.
    #[must_use]
    pub(crate) fn one_line(&self) -> String {
        chain(self)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// Turns another error into the cause of ours.
pub(crate) trait Context<T> {
    /// Replaces an error by the one `make` gives, with the first as its cause.
    ///
    /// # Errors
    /// The same cases as before.
    fn context(self, make: impl FnOnce() -> Error) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, make: impl FnOnce() -> Error) -> Result<T> {
        self.map_err(|cause| make().caused_by(cause))
    }
}

#[cfg(test)]
mod tests {
    use drawbridge_proxy::Upstream;

    use super::*;

    #[test]
    fn causes_follow_the_message_in_one_line() {
        let cause = std::io::Error::other("disk\nfull");
        let error = Error::infrastructure("cannot write /state/x").caused_by(cause);
        assert_eq!(error.one_line(), "cannot write /state/x: disk full");
        assert_eq!(error.exit().code(), 4);
    }

    #[test]
    fn the_hint_of_a_cause_is_ours_and_no_part_of_the_line() {
        let deep = Upstream::parse("http://192.0.2.1", false).unwrap_err();
        let line = format!("not valid: route 1: {deep}");
        let cause = Error::usage("route 1").caused_by(deep);
        let error = Error::usage("not valid").hint("read it").caused_by(cause);
        assert_eq!(error.one_line(), line);
        assert!(error.hint_text().unwrap().starts_with("use https"));
    }
}
