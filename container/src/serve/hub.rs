//! The state that all parts of `serve` share: the queue, the live runs, the store.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use drawbridge_shared::ids::{GroupName, RunId};
use tokio::sync::{Notify, watch};

use super::run_handle::RunHandle;
use super::settings::Setup;
use crate::error::{Error, Result};
use crate::serve::queue::Queue;
use crate::serve::retry::remaining;
use crate::serve::store::{Store, Waiting, now_ms};
use crate::serve::submission::SubmissionId;
use crate::state::State;
use crate::terminal::output;

/// Longest time for which a write is repeated while the disk is full or broken.
const STORE_PATIENCE: Duration = Duration::from_secs(600);
/// Pause between two such tries.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// The phases of `serve`, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Running,
    /// No run begins any more, and those that are live are asked to end.
    Draining,
    /// Live runs are stopped, and nothing is tried again.
    Stopping,
    /// Nothing more will happen. Clients read the last events and leave.
    Stopped,
}

/// The shared state of `serve`.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) store: Store,
    pub(super) state: State,
    pub(super) setup: Setup,
    /// Notified of every change that the dispatcher has to react to.
    pub(super) changed: Notify,
    phase: watch::Sender<Phase>,
    shared: Mutex<Shared>,
}

/// The part of the state that changes.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) live: HashMap<SubmissionId, RunHandle>,
    /// Runs that could not be ended yet. Nothing of their groups may start.
    pub(super) orphans: Vec<OrphanRun>,
    /// The reason why the store cannot be written at present.
    pub(super) last_error: Option<String>,
}

/// A run without its launcher that may still be alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OrphanRun {
    pub(super) submission: SubmissionId,
    pub(super) group: Option<GroupName>,
    pub(super) run: RunId,
}

impl Hub {
    pub(super) fn new(store: Store, state: State, setup: Setup) -> Self {
        let queue = Queue::new(setup.limits());
        Self {
            store,
            state,
            setup,
            changed: Notify::new(),
            phase: watch::Sender::new(Phase::Running),
            shared: Mutex::new(Shared {
                queue,
                live: HashMap::new(),
                orphans: Vec::new(),
                last_error: None,
            }),
        }
    }

    /// The shared part. It is never held across a wait.
    pub(super) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a phase has begun or is past.
    pub(super) fn has_reached(&self, phase: Phase) -> bool {
        *self.phase.borrow() >= phase
    }

    /// Waits until a phase begins.
    pub(super) async fn reached(&self, phase: Phase) {
        let mut phases = self.phase.subscribe();
        // The sender lives as long as this borrow of it.
        let _ = phases.wait_for(|now| *now >= phase).await;
    }

    /// Begins a phase, if it is not past.
    pub(super) fn advance_to(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let is_later = phase > *now;
            if is_later {
                *now = phase;
            }
            is_later
        });
    }

    /// Puts a submission into the queue.
    pub(super) fn enqueue(&self, waiting: Waiting) {
        let longest = self.setup.retry().longest_delay;
        let wait = remaining(waiting.due, now_ms(), longest);
        let (id, group, kind) = (waiting.id, waiting.group, waiting.kind);
        self.shared()
            .queue
            .push(id, group, kind, Instant::now() + wait);
        self.changed.notify_one();
    }

    /// Controls a live run.
    ///
    /// # Errors
    /// There is no such run, or `action` fails.
    pub(super) fn control<T>(
        &self,
        id: SubmissionId,
        action: impl FnOnce(&mut RunHandle) -> Result<T>,
    ) -> Result<T> {
        let mut shared = self.shared();
        let run = shared.live.get_mut(&id).ok_or_else(|| not_live(id))?;
        action(run)
    }

    /// The live run of a group that still takes messages, if there is one.
    pub(super) fn live_run_of(&self, group: &GroupName) -> Option<SubmissionId> {
        let shared = self.shared();
        let mut live = shared.live.iter();
        live.find(|(_, run)| run.takes_messages_to(group))
            .map(|(id, _)| *id)
    }

    /// Repeats `work` on the store until it succeeds: what has happened must be
    /// written down before anything else does.
    ///
    /// # Errors
    /// It did not succeed for ten minutes, or until `serve` stops.
    pub(super) async fn retry_until_ok<T, F>(&self, work: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let deadline = Instant::now() + STORE_PATIENCE;
        loop {
            let error = match work().await {
                Ok(done) => {
                    self.set_last_error(None);
                    return Ok(done);
                }
                Err(error) => error,
            };
            self.set_last_error(Some(&error));
            tokio::select! {
                () = tokio::time::sleep(STORE_PAUSE) => {}
                () = self.reached(Phase::Stopping) => return Err(error),
            }
            if Instant::now() > deadline {
                return Err(error);
            }
        }
    }

    /// Records whether the store can be written, and reports each change once.
    fn set_last_error(&self, error: Option<&Error>) {
        let line = error.map(Error::one_line);
        let before = std::mem::replace(&mut self.shared().last_error, line);
        match (before, error) {
            (None, Some(error)) => output::error(error),
            (Some(_), None) => {
                output::note("the queue can be written again");
                self.changed.notify_one();
            }
            _ => {}
        }
    }

    /// Records a run whose folder is still there, so that it may be alive. False
    /// when it is gone.
    pub(super) fn record_orphan(&self, orphan: OrphanRun) -> bool {
        let is_alive = self.state.knows(&orphan.run);
        if is_alive {
            self.shared().orphans.push(orphan);
        }
        is_alive
    }

    /// Whether an orphan stands in the way of a run of this submission.
    pub(super) fn is_blocked_by_orphan(&self, id: SubmissionId, group: Option<&GroupName>) -> bool {
        self.drop_removed_orphans();
        self.shared().orphans.iter().any(|orphan| {
            orphan.submission == id || (orphan.group.is_some() && orphan.group.as_ref() == group)
        })
    }

    /// Forgets the orphans that are gone. True when none is left.
    pub(super) fn drop_removed_orphans(&self) -> bool {
        let mut shared = self.shared();
        shared
            .orphans
            .retain(|orphan| self.state.knows(&orphan.run));
        shared.orphans.is_empty()
    }
}

pub(super) fn not_live(id: SubmissionId) -> Error {
    Error::usage(format!("submission {id} is not under way"))
        .hint("`drawbridge list` shows what is")
}
