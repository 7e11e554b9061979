//! The refresher: the task that reads one source and keeps its credential fresh.
//!
//! There is one per credential, so a renewal is single flight by construction,
//! whichever thread its request came from, and no request that is given up
//! takes a renewal with it.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};

use super::Observers;
use super::clock::Clock;
use super::command;
use super::login::{self, Login};
use super::source::CredentialSource;
use super::state::{State, Value};
use super::watch::FileWatch;
use crate::base::chain;
use crate::secret::{Environment, Reason, Secret, Unavailable, files};

/// First and longest wait before a failed renewal is tried again.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// A request to a refresher.
#[derive(Debug)]
pub(super) enum Request {
    /// A request found the value ended or refused.
    Renew,
    /// The configuration is read again; the answer is how it went.
    Reload(oneshot::Sender<Result<(), Unavailable>>),
    /// The proxy ends; the answer comes when nothing is in flight any more.
    End(oneshot::Sender<()>),
}

/// The parts that a refresher shares with its credential.
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) state: Arc<watch::Sender<State>>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) observers: Observers,
}

/// The task of one credential; it ends when nothing can ask for the credential any
/// more.
pub(super) struct Refresher {
    source: CredentialSource,
    environment: Arc<Environment>,
    /// The OAuth token file, if the source is one.
    login: Option<Login>,
    shared: Shared,
    clock: Clock,
    watch: Option<FileWatch>,
    failures: u32,
    /// When tokens that could not be written are written again.
    save_at: Option<SystemTime>,
}

enum Work {
    Read(Option<oneshot::Sender<Result<(), Unavailable>>>),
    Renew,
    Save,
    End(oneshot::Sender<()>),
}

impl Refresher {
    /// The refresher of a source, in these surroundings.
    ///
    /// # Errors
    /// The source can never give a value as it is configured.
    pub(super) fn new(
        source: &CredentialSource,
        context: &login::Context<'_>,
        shared: Shared,
    ) -> Result<Self, Unavailable> {
        let login = login::open(source, context)?;
        let file = login.as_ref().map(|login| login.path().to_owned());
        let file = file.or_else(|| source.local_file(context.environment));
        Ok(Self {
            source: source.clone(),
            environment: Arc::new(context.environment.clone()),
            login,
            shared,
            clock: context.clock,
            // Before the first reading, so that no change goes unnoticed.
            watch: file.map(|path| FileWatch::new(&path)),
            failures: 0,
            save_at: None,
        })
    }

    /// Reads for the first time, then follows changes and ends.
    pub(super) async fn run(mut self) {
        self.start().await;
        while let Some(work) = self.next().await {
            match work {
                Work::Read(reply) => {
                    let result = self.read().await;
                    if let Some(reply) = reply {
                        // Who asked may have gone.
                        let _ = reply.send(result);
                    }
                }
                Work::Renew => self.renew().await,
                Work::Save => self.save().await,
                Work::End(reply) => {
                    if self.is_unsaved() {
                        self.save().await;
                    }
                    let _ = reply.send(());
                    return;
                }
            }
        }
    }

    /// Requests wait until this is done.
    async fn start(&mut self) {
        let is_read = match self.source {
            // Reading it is renewing it, and is tried again when it fails.
            CredentialSource::Command { .. } => true,
            _ => self.read().await.is_ok(),
        };
        if is_read {
            self.renew().await;
        } else {
            self.shared.state.send_modify(State::end_renewal);
        }
    }

    async fn next(&mut self) -> Option<Work> {
        let renew_at = self.shared.state.borrow().renew_at();
        tokio::select! {
            request = self.shared.requests.recv() => Some(match request? {
                Request::Renew => Work::Renew,
                Request::Reload(reply) => Work::Read(Some(reply)),
                Request::End(reply) => Work::End(reply),
            }),
            () = changed(&mut self.watch) => Some(Work::Read(None)),
            () = self.clock.reached(renew_at) => Some(Work::Renew),
            () = self.clock.reached(self.save_at) => Some(Work::Save),
        }
    }

    async fn read(&mut self) -> Result<(), Unavailable> {
        let result = self.fetch().await;
        self.save_soon();
        match result {
            Ok(value) => {
                self.update(|state| state.observe(value));
                Ok(())
            }
            Err(problem) => {
                self.report(&problem);
                self.shared
                    .state
                    .send_modify(|state| state.keep(problem.clone()));
                Err(problem)
            }
        }
    }

    async fn renew(&mut self) {
        let needed = self.shared.state.borrow().needs_renewal(self.clock.now());
        if !needed {
            self.shared.state.send_modify(State::end_renewal);
            return;
        }
        self.shared.state.send_modify(State::begin_renewal);
        let stale = self.shared.state.borrow().last().cloned();
        match self.fetch_other_than(stale.as_ref()).await {
            Ok(value) => {
                self.observe(true);
                self.failures = 0;
                self.update(|state| state.accept(value));
                self.save_soon();
            }
            Err(problem) => {
                self.observe(false);
                let delay = backoff(self.failures);
                self.failures = self.failures.saturating_add(1);
                let problem = problem.retried_after(delay);
                let renew_at = match problem.reason() {
                    // Only a new login helps, and that is a change of the file.
                    Reason::LoginRefused => None,
                    Reason::Outage { retry_after } => self.clock.now().checked_add(retry_after),
                    Reason::Missing | Reason::Broken => self.clock.now().checked_add(delay),
                };
                self.report(&problem);
                self.shared
                    .state
                    .send_modify(|state| state.reject(problem, renew_at));
            }
        }
    }

    fn observe(&self, is_done: bool) {
        let observers = self.shared.observers.lock();
        for observer in observers.unwrap_or_else(PoisonError::into_inner).values() {
            observer(is_done);
        }
    }

    /// The present value of the source.
    async fn fetch(&mut self) -> Result<Value, Unavailable> {
        match (&mut self.login, &self.source) {
            (Some(login), _) => login.read().await,
            (
                None,
                CredentialSource::Command {
                    command,
                    lifetime,
                    timeout,
                },
            ) => {
                let secret = command::run(command, *timeout, &self.environment).await?;
                Ok(Value {
                    renew_at: self.clock.now().checked_add(*lifetime),
                    ..Value::lasting(secret)
                })
            }
            (None, _) => self.read_local().await.map(Value::lasting),
        }
    }

    async fn read_local(&self) -> Result<Secret, Unavailable> {
        let (source, environment) = (self.source.clone(), Arc::clone(&self.environment));
        match self.source.local_file(&self.environment) {
            Some(path) => files::blocking(&path, move |_| source.read_local(&environment)).await,
            None => source.read_local(&environment),
        }
    }

    /// A value other than `stale`, if the source can make one.
    async fn fetch_other_than(&mut self, stale: Option<&Secret>) -> Result<Value, Unavailable> {
        match &mut self.login {
            Some(login) => login.renew(stale).await,
            None => self.fetch().await,
        }
    }

    fn is_unsaved(&self) -> bool {
        self.login.as_ref().is_some_and(Login::is_unsaved)
    }

    fn save_soon(&mut self) {
        if self.is_unsaved() && self.save_at.is_none() {
            self.save_at = self.clock.now().checked_add(FIRST_RETRY);
        }
    }

    async fn save(&mut self) {
        self.save_at = None;
        let Some(login) = &mut self.login else { return };
        match login.save().await {
            Ok(()) => {
                tracing::info!(credential = %self.shared.name, "the login file is up to date")
            }
            Err(problem) => {
                tracing::warn!(credential = %self.shared.name, error = %chain(&problem), "the login file is not up to date");
                self.save_at = self.clock.now().checked_add(LONGEST_RETRY);
            }
        }
    }

    fn update(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut is_change = false;
        self.shared.state.send_modify(|state| {
            let is_first = state.last().is_none();
            is_change = change(state) && !is_first;
        });
        if is_change {
            tracing::info!(credential = %self.shared.name, "the credential has changed");
        }
    }

    fn report(&self, problem: &Unavailable) {
        let error = chain(problem);
        if self.shared.state.borrow().ready(self.clock.now()).is_some() {
            tracing::warn!(credential = %self.shared.name, %error, "keeping the previous credential");
        } else {
            tracing::error!(credential = %self.shared.name, %error, "no usable credential");
        }
    }
}

async fn changed(watch: &mut Option<FileWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

fn backoff(failures: u32) -> Duration {
    FIRST_RETRY
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(LONGEST_RETRY)
}
