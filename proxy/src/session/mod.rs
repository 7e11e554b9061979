//! Sessions: who may use the proxy, for what, and for how long.
//!
//! A session's token is `dbs_`, sixteen hexadecimal digits that name the
//! session, and 64 that prove it (256 bits). The name may be logged; of the
//! proof only a SHA-256 digest is kept, and it is compared in constant time.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use drawbridge_shared::ids::{RunId, hex};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::base::network::Network;
use crate::policy::{RouteName, Rule};

pub(crate) mod limit;

use limit::Usage;

/// The prefix of every token, so that a leaked one is recognised.
pub const TOKEN_PREFIX: &str = "dbs_";

const ID_DIGITS: usize = 16;
const PROOF_BYTES: usize = 32;

/// Most sessions at one time; more than this is a launcher that does not revoke.
const MAX_SESSIONS: usize = 100_000;

/// Name of a session, as logs show it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// The name as text: sixteen lower-case hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SessionId {
    /// The text, shared.
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one listener of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) u32);

/// Where a session's requests may come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Any listener.
    #[default]
    Any,
    /// One listener, such as the run's own socket. A token that was carried
    /// into another container is worthless there.
    Listener(ListenerId),
    /// A source network, on any TCP listener.
    Source(Network),
}

/// The terms of a session.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    /// The run that the session belongs to.
    pub run: RunId,
    /// Names of the routes it may use; `None` is all of them, an empty set none.
    pub routes: Option<BTreeSet<RouteName>>,
    /// Narrows what the routes allow; `None` leaves it to them.
    pub allow: Option<Vec<Rule>>,
    /// Lifetime of the token, unless it is revoked before.
    pub lifetime: Duration,
    /// Where its requests may come from.
    pub transport: Transport,
    /// Bounds on its use.
    pub limits: SessionLimits,
}

impl SessionSpec {
    /// A session for all routes, from anywhere, without limits but its lifetime.
    #[must_use]
    pub const fn new(run: RunId, lifetime: Duration) -> Self {
        Self {
            run,
            routes: None,
            allow: None,
            lifetime,
            transport: Transport::Any,
            limits: SessionLimits::UNLIMITED,
        }
    }
}

/// Bounds on the use of a session. `None` is no limit, zero is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// Requests in flight at one time.
    pub concurrent: Option<u32>,
    /// Requests started per minute.
    pub requests_per_minute: Option<u32>,
    /// Bytes of one request body.
    pub body_bytes: Option<u64>,
    /// Input tokens over the session's life, as the upstream counts them.
    pub input_tokens: Option<u64>,
    /// Output tokens over the session's life, as the upstream counts them.
    pub output_tokens: Option<u64>,
}

impl SessionLimits {
    /// No limit at all.
    pub const UNLIMITED: Self = Self {
        concurrent: None,
        requests_per_minute: None,
        body_bytes: None,
        input_tokens: None,
        output_tokens: None,
    };
}

/// Why no session was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The operating system has no random numbers to give.
    #[error("the operating system gave no random numbers")]
    Random(#[from] getrandom::Error),
    /// Too many sessions are open.
    #[error("{MAX_SESSIONS} sessions are open")]
    TooMany,
}

impl IssueError {
    /// The fix, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Random(_) => None,
            Self::TooMany => Some("revoke the ones that are no longer used".into()),
        }
    }
}

/// One session, as requests see it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) spec: SessionSpec,
    pub(crate) usage: Usage,
    pub(crate) expires: Instant,
    proof: [u8; 32],
    revoked: AtomicBool,
}

impl Session {
    /// Whether the session may use a route at all.
    pub(crate) fn may_use(&self, route: &RouteName) -> bool {
        self.spec.routes.as_ref().is_none_or(|r| r.contains(route))
    }

    /// Whether the session's own rules allow a request to a route's path.
    pub(crate) fn allows(&self, method: &http::Method, path: &str) -> bool {
        let rules = self.spec.allow.as_ref();
        rules.is_none_or(|rules| rules.iter().any(|rule| rule.allows(method, path)))
    }

    /// Whether the session was revoked; answers in flight end with it.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    fn is_live(&self) -> bool {
        !self.is_revoked() && Instant::now() < self.expires
    }

    fn accepts(&self, origin: Origin) -> bool {
        match self.spec.transport {
            Transport::Any => true,
            Transport::Listener(listener) => listener == origin.listener,
            Transport::Source(network) => origin.peer.is_some_and(|peer| network.contains(peer)),
        }
    }
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) listener: ListenerId,
    /// `None` on a unix socket.
    pub(crate) peer: Option<std::net::IpAddr>,
}

/// The sessions of a proxy. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    table: Arc<RwLock<HashMap<SessionId, Arc<Session>>>>,
}

impl Sessions {
    /// Issues a session. It is revoked when the guard is dropped.
    ///
    /// # Errors
    /// There are no random numbers, or too many sessions are open.
    pub fn issue(&self, spec: SessionSpec) -> Result<SessionGuard, IssueError> {
        let (mut id, mut proof) = ([0; ID_DIGITS / 2], Zeroizing::new([0; PROOF_BYTES]));
        getrandom::fill(&mut id)?;
        getrandom::fill(proof.as_mut())?;
        let id = SessionId(hex(&id).as_str().into());
        let proof_text = Zeroizing::new(hex(proof.as_ref()));
        let session = Arc::new(Session {
            id: id.clone(),
            usage: Usage::new(&spec.limits),
            expires: Instant::now() + spec.lifetime,
            spec,
            proof: Sha256::digest(proof_text.as_bytes()).into(),
            revoked: AtomicBool::new(false),
        });
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MAX_SESSIONS {
            table.retain(|_, session| session.is_live());
        }
        if table.len() >= MAX_SESSIONS {
            return Err(IssueError::TooMany);
        }
        table.insert(id.clone(), session);
        let token = Zeroizing::new([TOKEN_PREFIX, id.as_str(), proof_text.as_str()].concat());
        Ok(SessionGuard {
            sessions: self.clone(),
            id,
            token,
        })
    }

    /// Revokes a session; says whether it was there.
    pub fn revoke(&self, id: &SessionId) -> bool {
        self.revoke_named(id.as_str()).is_some()
    }

    /// Revokes the session of this id and returns what it was.
    pub(crate) fn revoke_named(&self, id: &str) -> Option<Arc<Session>> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let session = table.remove(id)?;
        session.revoked.store(true, Ordering::Release);
        Some(session)
    }

    /// All sessions that are still good.
    pub(crate) fn live(&self) -> Vec<Arc<Session>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let live = table.values().filter(|session| session.is_live());
        live.cloned().collect()
    }

    /// The session that a token opens, from where the request came. The answer
    /// takes the same time whatever is wrong with the token, and does not say
    /// what it was.
    pub(crate) fn authenticate(&self, token: &[u8], origin: Origin) -> Option<Arc<Session>> {
        let digits = token.strip_prefix(TOKEN_PREFIX.as_bytes())?;
        let (id, proof) = digits.split_at_checked(ID_DIGITS)?;
        let id = std::str::from_utf8(id).ok()?;
        let presented: [u8; 32] = Sha256::digest(proof).into();
        let found = {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            table.get(id).cloned()
        };
        let expected = found.as_ref().map_or(&[0; 32], |session| &session.proof);
        let is_proven: bool = presented.ct_eq(expected).into();
        found.filter(|session| is_proven && session.is_live() && session.accepts(origin))
    }
}

impl std::borrow::Borrow<str> for SessionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A session that lasts as long as this guard, and its token.
pub struct SessionGuard {
    sessions: Sessions,
    id: SessionId,
    token: Zeroizing<String>,
}

impl SessionGuard {
    /// Name of the session.
    #[must_use]
    pub const fn id(&self) -> &SessionId {
        &self.id
    }

    /// The token that a client presents where it would present its key.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Keeps the session until it expires or is revoked by name, and gives its
    /// token.
    #[must_use]
    pub fn keep(mut self) -> Zeroizing<String> {
        // A session of no name is nobody's, so dropping the guard revokes none.
        self.id = SessionId("".into());
        std::mem::take(&mut self.token)
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.sessions.revoke(&self.id);
    }
}

impl fmt::Debug for SessionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionGuard")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
