//! Hints of errors whose type is no longer known.

use std::borrow::Cow;
use std::error::Error;

use super::StartError;
use crate::base::bind::BindError;
use crate::config::ConfigError;
use crate::control::client::AdminError;
use crate::observe::audit::{OpenError, VerifyError};
use crate::server::ListenError;
use crate::session::IssueError;
use crate::upstream::InvalidUpstream;
use crate::upstream::tls::TlsError;

/// The hint of an error of this crate, or of the first of its causes that has
/// one. [`Unavailable`](crate::credential::Unavailable) is left to its callers,
/// who know more about the credential that was asked for.
#[must_use]
pub fn hint_of(error: &(dyn Error + 'static)) -> Option<Cow<'static, str>> {
    let own = None
        .or_else(|| hint_as(error, StartError::hint))
        .or_else(|| hint_as(error, ConfigError::hint))
        .or_else(|| hint_as(error, InvalidUpstream::hint))
        .or_else(|| hint_as(error, ListenError::hint))
        .or_else(|| hint_as(error, BindError::hint))
        .or_else(|| hint_as(error, TlsError::hint))
        .or_else(|| hint_as(error, OpenError::hint))
        .or_else(|| hint_as(error, VerifyError::hint))
        .or_else(|| hint_as(error, IssueError::hint))
        .or_else(|| hint_as(error, AdminError::hint));
    own.or_else(|| error.source().and_then(hint_of))
}

fn hint_as<E: Error + 'static>(
    error: &(dyn Error + 'static),
    hint: fn(&E) -> Option<Cow<'static, str>>,
) -> Option<Cow<'static, str>> {
    error.downcast_ref().and_then(hint)
}
