//! The task that keeps one credential up to date.
//!
//! There is one per credential, so a renewal is single flight by construction,
//! whichever thread its request came from, and no request that is given up
//! takes a renewal with it.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};

use super::Observers;
use super::clock::Clock;
use super::opened::Opened;
use super::state::State;
use super::watch::FileWatch;
use crate::base::chain;
use crate::secret::{Reason, Unavailable};

/// First and longest wait before a failed renewal is tried again.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// A request to a refresher.
#[derive(Debug)]
pub(super) enum Ask {
    /// A request found the value ended or refused.
    Renew,
    /// The configuration is read again; the answer is how it went.
    Reload(oneshot::Sender<Result<(), Unavailable>>),
    /// The proxy ends; the answer comes when nothing is in flight any more.
    End(oneshot::Sender<()>),
}

/// The parts that a refresher shares with its credential.
pub(super) struct Ends {
    pub(super) name: Arc<str>,
    pub(super) state: Arc<watch::Sender<State>>,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) observers: Observers,
}

/// Keeps one credential up to date until nobody can ask for it any more.
pub(super) struct Keeper {
    source: Opened,
    ends: Ends,
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

impl Keeper {
    pub(super) fn new(source: Opened, ends: Ends, clock: Clock) -> Self {
        // Before the first reading, so that no change goes unnoticed.
        let watch = source.path().map(|path| FileWatch::new(path));
        Self {
            source,
            ends,
            clock,
            watch,
            failures: 0,
            save_at: None,
        }
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
                    if self.source.is_unsaved() {
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
            Opened::Command { .. } => true,
            _ => self.read().await.is_ok(),
        };
        if is_read {
            self.renew().await;
        } else {
            self.ends.state.send_modify(State::end_renewal);
        }
    }

    async fn next(&mut self) -> Option<Work> {
        let renew_at = self.ends.state.borrow().renew_at();
        tokio::select! {
            ask = self.ends.asks.recv() => Some(match ask? {
                Ask::Renew => Work::Renew,
                Ask::Reload(reply) => Work::Read(Some(reply)),
                Ask::End(reply) => Work::End(reply),
            }),
            () = changed(&mut self.watch) => Some(Work::Read(None)),
            () = self.clock.reached(renew_at) => Some(Work::Renew),
            () = self.clock.reached(self.save_at) => Some(Work::Save),
        }
    }

    async fn read(&mut self) -> Result<(), Unavailable> {
        let result = self.source.read().await;
        self.save_soon();
        match result {
            Ok(reading) => {
                self.update(|state| state.observe(reading));
                Ok(())
            }
            Err(problem) => {
                self.report(&problem);
                self.ends
                    .state
                    .send_modify(|state| state.keep(problem.clone()));
                Err(problem)
            }
        }
    }

    async fn renew(&mut self) {
        let needed = self.ends.state.borrow().needs_renewal(self.clock.now());
        if !needed {
            self.ends.state.send_modify(State::end_renewal);
            return;
        }
        self.ends.state.send_modify(State::begin_renewal);
        let stale = self.ends.state.borrow().last().cloned();
        match self.source.renew(stale.as_ref()).await {
            Ok(reading) => {
                self.observe(true);
                self.failures = 0;
                self.update(|state| state.accept(reading));
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
                self.ends
                    .state
                    .send_modify(|state| state.reject(problem, renew_at));
            }
        }
    }

    fn observe(&self, is_done: bool) {
        let observers = self.ends.observers.lock();
        for observer in observers.unwrap_or_else(PoisonError::into_inner).values() {
            observer(is_done);
        }
    }

    fn save_soon(&mut self) {
        if self.source.is_unsaved() && self.save_at.is_none() {
            self.save_at = self.clock.now().checked_add(FIRST_RETRY);
        }
    }

    async fn save(&mut self) {
        self.save_at = None;
        match self.source.save().await {
            Ok(()) => tracing::info!(credential = %self.ends.name, "the login file is up to date"),
            Err(problem) => {
                tracing::warn!(credential = %self.ends.name, error = %chain(&problem), "the login file is not up to date");
                self.save_at = self.clock.now().checked_add(LONGEST_RETRY);
            }
        }
    }

    fn update(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut is_change = false;
        self.ends.state.send_modify(|state| {
            let is_first = state.last().is_none();
            is_change = change(state) && !is_first;
        });
        if is_change {
            tracing::info!(credential = %self.ends.name, "the credential has changed");
        }
    }

    fn report(&self, problem: &Unavailable) {
        let error = chain(problem);
        if self.ends.state.borrow().ready(self.clock.now()).is_some() {
            tracing::warn!(credential = %self.ends.name, %error, "keeping the previous credential");
        } else {
            tracing::error!(credential = %self.ends.name, %error, "no usable credential");
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
