//! The state of one credential.

use crate::secret::{Reason, Secret, Unavailable};
use std::time::{Duration, SystemTime};

/// Least time between two renewals that an upstream's 401 causes. A token that
/// is refused for another reason than its age is not to be renewed per request.
const BETWEEN_REFUSALS: Duration = Duration::from_secs(60);

/// Longest time before its expiry at which a token is refreshed.
const EARLY: Duration = Duration::from_secs(10 * 60);

/// A value that a source gave.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// The value, if there is one; a login may have only a refresh token yet.
    pub(super) secret: Option<Secret>,
    /// When the value ends, if it does.
    pub(super) expires: Option<SystemTime>,
    /// When it is to be renewed, if it is.
    pub(super) renew_at: Option<SystemTime>,
}

/// The state of a credential. Its refresher writes it, requests read it.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    secret: Option<Secret>,
    expires: Option<SystemTime>,
    renew_at: Option<SystemTime>,
    problem: Option<Unavailable>,
    /// The upstream refused the value, and a renewal has been asked for.
    is_suspect: bool,
    /// A renewal has been asked for or is in flight.
    is_renewing: bool,
    /// Before this moment, no 401 causes a renewal.
    refusals_from: Option<SystemTime>,
}

impl Value {
    /// A value that stays good until it is changed.
    pub(super) const fn lasting(secret: Secret) -> Self {
        Self {
            secret: Some(secret),
            expires: None,
            renew_at: None,
        }
    }

    /// A token that ends at `expires`. It is renewed ten minutes before, or
    /// after three quarters of what is left of a short life.
    pub(super) fn token(
        secret: Option<Secret>,
        expires: Option<SystemTime>,
        now: SystemTime,
    ) -> Self {
        let left = expires.map(|end| end.duration_since(now).unwrap_or_default());
        let renew_at = match (&secret, left) {
            (None, _) => Some(now),
            (Some(_), Some(left)) => now.checked_add(left.saturating_sub(EARLY.min(left / 4))),
            (Some(_), None) => None,
        };
        Self {
            secret,
            expires,
            renew_at,
        }
    }
}

impl State {
    /// The value, if a request can be sent with it.
    pub(super) fn ready(&self, now: SystemTime) -> Option<&Secret> {
        let is_good = !self.is_suspect && self.expires.is_none_or(|end| now < end);
        self.secret.as_ref().filter(|_| is_good)
    }

    /// The value, good or not.
    pub(super) const fn last(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }

    /// The last failure, if nothing succeeded since.
    pub(super) const fn problem(&self) -> Option<&Unavailable> {
        self.problem.as_ref()
    }

    pub(super) const fn is_renewing(&self) -> bool {
        self.is_renewing
    }

    /// When the keeper has to act by itself.
    pub(super) const fn renew_at(&self) -> Option<SystemTime> {
        self.renew_at
    }

    /// Whether a renewal makes sense now; a second request for one does not.
    pub(super) fn needs_renewal(&self, now: SystemTime) -> bool {
        self.ready(now).is_none() || self.renew_at.is_some_and(|at| at <= now)
    }

    /// A request found the value ended. Whether a renewal is to be asked for.
    pub(super) const fn ask_renewal(&mut self) -> bool {
        !std::mem::replace(&mut self.is_renewing, true)
    }

    /// An upstream refused `secret`. Whether a renewal is to be asked for.
    pub(super) fn refuse(&mut self, secret: &Secret, now: SystemTime) -> bool {
        let is_old_news = self.is_suspect
            || self.secret.as_ref() != Some(secret)
            || self.refusals_from.is_some_and(|from| now < from);
        if is_old_news {
            return false;
        }
        self.refusals_from = now.checked_add(BETWEEN_REFUSALS);
        self.is_suspect = true;
        self.is_renewing = true;
        true
    }

    pub(super) const fn begin_renewal(&mut self) {
        self.is_renewing = true;
    }

    pub(super) const fn end_renewal(&mut self) {
        self.is_suspect = false;
        self.is_renewing = false;
    }

    /// A source was read. Returns whether it gave another value than before.
    pub(super) fn observe(&mut self, value: Value) -> bool {
        let is_new = self.secret != value.secret;
        let is_known = !is_new && self.expires == value.expires;
        if is_known {
            // An outage is not over because the login has been read again.
            let is_outage =
                |problem: &Unavailable| matches!(problem.reason(), Reason::Outage { .. });
            if self
                .problem
                .as_ref()
                .is_some_and(|problem| !is_outage(problem))
            {
                self.problem = None;
                self.renew_at = value.renew_at;
            }
            // Else the time of renewal stands: read again, a token has less left
            // of its life, and the renewal would move ever closer to its end.
            return false;
        }
        self.secret = value.secret;
        self.expires = value.expires;
        self.renew_at = value.renew_at;
        self.problem = None;
        self.is_suspect &= !is_new;
        is_new
    }

    /// A renewal gave a value. Returns whether it is another one than before.
    pub(super) fn accept(&mut self, value: Value) -> bool {
        let is_new = self.secret != value.secret;
        self.secret = value.secret;
        self.expires = value.expires;
        self.renew_at = value.renew_at;
        self.problem = None;
        self.end_renewal();
        is_new
    }

    /// A source gave no value: the one there was stays.
    pub(super) fn keep(&mut self, problem: Unavailable) {
        self.problem = Some(problem);
    }

    /// A renewal gave no value: the one there was stays, unless its upstream and
    /// its issuer both refuse it. The next attempt is at `renew_at`.
    pub(super) fn reject(&mut self, problem: Unavailable, renew_at: Option<SystemTime>) {
        if self.is_suspect && problem.reason() == Reason::LoginRefused {
            self.secret = None;
        }
        self.renew_at = renew_at;
        self.problem = Some(problem);
        self.end_renewal();
    }
}
