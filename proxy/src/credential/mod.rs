//! The credentials that the proxy injects: where they come from, how they stay
//! fresh, and how they are kept from being printed.
//!
//! A [`CredentialSource`] of the configuration is validated once, before anything
//! starts. [`Credentials`] turns it into a [`Credential`], which always has the
//! present [`Secret`]. A task per credential, its refresher, reads the source and
//! refreshes the value.

mod clock;
mod command;
mod local;
mod login;
mod refresher;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

pub use crate::secret::{
    Environment, InvalidSecret, Reason, Secret, Unavailable, is_read_from_dotenv,
};
pub(crate) use source::variable_default;
pub use source::{CredentialSource, anthropic_default};

use self::clock::Clock;
use self::login::{Connect, Context, DirectConnect};
use self::refresher::{Refresher, Request, Shared};
use self::state::State;
use crate::upstream::connect::Connector;

/// Longest wait of a request for a renewal in flight.
const WAIT: Duration = Duration::from_secs(30);

/// Opens credentials. Sources that are the same share one credential, so that
/// one login is renewed once.
#[derive(Debug)]
pub struct Credentials {
    environment: Environment,
    tasks: Handle,
    connect: Option<Arc<dyn Connect>>,
    clock: Clock,
    opened: Mutex<HashMap<CredentialSource, Credential>>,
}

/// A credential that is kept up to date. Clones share it, across threads.
#[derive(Clone)]
pub struct Credential {
    name: Arc<str>,
    state: Arc<tokio::sync::watch::Sender<State>>,
    requests: Option<mpsc::Sender<Request>>,
    observers: Observers,
    clock: Clock,
}

/// Functions that are called after each refresh with its success, by name.
type Observers = Arc<Mutex<HashMap<String, Observer>>>;
type Observer = Box<dyn Fn(bool) + Send>;

impl Credentials {
    /// Credentials of this environment, kept up to date by tasks on the runtime
    /// of `tasks`. Token endpoints are reached with the platform's root
    /// certificates.
    #[must_use]
    pub fn new(environment: Environment, tasks: Handle) -> Self {
        Self {
            environment,
            tasks,
            connect: None,
            clock: Clock::System,
            opened: Mutex::default(),
        }
    }

    /// Reaches token endpoints as upstreams are reached.
    #[must_use]
    pub(crate) fn reaching(mut self, connector: Connector) -> Self {
        self.connect = Some(Arc::new(DirectConnect::new(connector)));
        self
    }

    /// Opens a credential, or gives the one that this source has already. Its
    /// first value is not waited for: [`Credential::current`] does that.
    ///
    /// A value that is not there yet is no error here: the file may come, the
    /// vendor recover.
    ///
    /// # Errors
    /// The source can never give a value as it is configured.
    pub fn open(&self, source: &CredentialSource) -> Result<Credential, Unavailable> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(credential) = opened.get(source) {
            return Ok(credential.clone());
        }
        let context = Context {
            environment: &self.environment,
            connect: self.connect.as_ref(),
            clock: self.clock,
        };
        let credential = Credential::start(source, &context, &self.tasks)?;
        opened.insert(source.clone(), credential.clone());
        Ok(credential)
    }

    /// Forgets all other sources. Their credentials end with the last request
    /// that uses them.
    pub fn keep_only(&self, sources: &HashSet<&CredentialSource>) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|source, _| sources.contains(source));
    }

    /// Ends the keeping of all credentials: waits until no renewal is in flight,
    /// at most half a minute. A renewal that is cut off loses its login, so this
    /// is to be waited for before the runtime or the process ends.
    pub async fn end(&self) {
        let ends: Vec<_> = self.all().iter().filter_map(Credential::end).collect();
        let all = async {
            for end in ends {
                // One that has ended already has nothing in flight.
                let _ = end.await;
            }
        };
        if tokio::time::timeout(WAIT, all).await.is_err() {
            tracing::error!("a renewal is still in flight and is cut off; its login may be lost");
        }
    }

    /// All credentials that have been opened.
    #[must_use]
    pub fn all(&self) -> Vec<Credential> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.values().cloned().collect()
    }

    /// Reads all sources again, now.
    ///
    /// # Errors
    /// The first that cannot be read. Its previous value stays in use, and so
    /// do the new values of the others.
    pub async fn reload(&self) -> Result<(), Unavailable> {
        let mut result = Ok(());
        for credential in self.all() {
            result = result.and(credential.reload().await);
        }
        result
    }
}

impl CredentialSource {
    /// Checks that there is a usable value, as far as that can be seen in
    /// variables and files. Commands and OAuth token files are left to a proxy
    /// that has started: no program is run, and nothing is asked of a vendor.
    ///
    /// # Errors
    /// The value is missing, or is not usable.
    pub(crate) fn validate(&self, environment: &Environment) -> Result<(), Unavailable> {
        if self.is_local() {
            self.read_local(environment)?;
        }
        Ok(())
    }
}

impl Credential {
    /// Opens a single credential and waits for its value. A task on the current
    /// runtime keeps it up to date.
    ///
    /// # Errors
    /// There is no usable value now, other than for an outage that passes.
    pub async fn open(
        source: &CredentialSource,
        environment: &Environment,
    ) -> Result<Self, Unavailable> {
        let credential = Credentials::new(environment.clone(), Handle::current()).open(source)?;
        match credential.current().await {
            Err(problem) if !matches!(problem.reason(), Reason::Outage { .. }) => Err(problem),
            _ => Ok(credential),
        }
    }

    /// A credential with its refresher, which runs on `tasks`.
    fn start(
        source: &CredentialSource,
        context: &Context<'_>,
        tasks: &Handle,
    ) -> Result<Self, Unavailable> {
        // Until the source has been read for the first time, requests wait.
        let mut state = State::default();
        state.begin_renewal();
        let (requests, received) = mpsc::channel(64);
        let is_fixed = source.is_fixed(context.environment);
        let credential = Self {
            name: source.to_string().into(),
            state: Arc::new(tokio::sync::watch::Sender::new(state)),
            requests: (!is_fixed).then_some(requests),
            observers: Observers::default(),
            clock: context.clock,
        };
        let shared = Shared {
            name: Arc::clone(&credential.name),
            state: Arc::clone(&credential.state),
            requests: received,
            observers: Arc::clone(&credential.observers),
        };
        let refresher = Refresher::new(source, context, shared)?;
        tasks.spawn(refresher.run());
        Ok(credential)
    }

    /// The value of now, if it is at hand: no waiting, for every request. `None`
    /// means that [`Credential::current`] has to be asked.
    #[must_use]
    pub fn try_current(&self) -> Option<Secret> {
        self.state.borrow().ready(self.clock.now()).cloned()
    }

    /// The value of now. Waits for a renewal in flight, at most 30 seconds.
    ///
    /// # Errors
    /// There is none, and the error says why.
    pub async fn current(&self) -> Result<Secret, Unavailable> {
        if let Some(secret) = self.try_current() {
            return Ok(secret);
        }
        tokio::time::timeout(WAIT, self.refreshed())
            .await
            .unwrap_or_else(|elapsed| {
                let message = format!("the {} is still being renewed", self.name);
                Err(Unavailable::outage(message, WAIT, elapsed))
            })
    }

    async fn refreshed(&self) -> Result<Secret, Unavailable> {
        let mut changes = self.state.subscribe();
        loop {
            {
                let state = changes.borrow_and_update();
                if let Some(secret) = state.ready(self.clock.now()) {
                    return Ok(secret.clone());
                }
                if !state.is_renewing()
                    && let Some(problem) = state.problem()
                {
                    return Err(problem.clone());
                }
            }
            // Ended by the clock while no one looked: the first to notice requests.
            let mut is_first = false;
            self.state.send_if_modified(|state| {
                is_first = state.ask_renewal();
                false
            });
            if is_first {
                self.send(Request::Renew);
            }
            if changes.changed().await.is_err() {
                return Err(self.ended());
            }
        }
    }

    /// The upstream answered 401 to a request with this value: has it renewed,
    /// at most once a minute. Returns at once; [`Credential::current`] waits for
    /// the renewal. A value of the process's environment stays as it is.
    pub fn refused(&self, secret: &Secret) {
        let mut is_news = false;
        if self.requests.is_some() {
            self.state.send_if_modified(|state| {
                is_news = state.refuse(secret, self.clock.now());
                is_news
            });
        }
        if is_news {
            tracing::warn!(credential = %self.name, "the upstream refused the credential; renewing it");
            self.send(Request::Renew);
        }
    }

    /// Tells `observer` of each renewal from now on, and whether it was done, in
    /// place of an earlier observer of this name.
    pub fn on_renewal(&self, name: &str, observer: impl Fn(bool) + Send + 'static) {
        let mut observers = self
            .observers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        observers.insert(name.to_owned(), Box::new(observer));
    }

    /// Reads the source again, now.
    ///
    /// # Errors
    /// It gave no value; the previous one stays in use.
    pub async fn reload(&self) -> Result<(), Unavailable> {
        let Some(requests) = &self.requests else {
            return Ok(());
        };
        let (reply, answer) = oneshot::channel();
        if requests.send(Request::Reload(reply)).await.is_err() {
            return Err(self.ended());
        }
        answer.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Asks the refresher to end; the answer comes when it has.
    fn end(&self) -> Option<oneshot::Receiver<()>> {
        let (reply, answer) = oneshot::channel();
        self.requests.as_ref()?.try_send(Request::End(reply)).ok()?;
        Some(answer)
    }

    /// Why there is no value, if there is none.
    #[must_use]
    pub fn unavailable(&self) -> Option<Unavailable> {
        let is_ready = self.try_current().is_some();
        self.problem().filter(|_| !is_ready)
    }

    /// The present failure of the source, even while a previous value serves.
    #[must_use]
    pub fn problem(&self) -> Option<Unavailable> {
        self.state.borrow().problem().cloned()
    }

    /// Name for messages: the source, without its value.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn send(&self, request: Request) {
        // A full queue means that the refresher is about to look anyway.
        if let Some(requests) = &self.requests {
            let _ = requests.try_send(request);
        }
    }

    fn ended(&self) -> Unavailable {
        Unavailable::missing(format!(
            "the {} is no longer kept: the proxy is ending",
            self.name
        ))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("name", &self.name)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}
