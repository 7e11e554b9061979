//! What all parts of `serve` share: the queue, the live runs, the store.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use drawbridge_shared::ids::{GroupName, RunId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::settings::Setup;
use crate::error::{Error, Result};
use crate::run::RunControl;
use crate::serve::queue::Queue;
use crate::serve::retry::remaining;
use crate::serve::store::{Store, Waiting, now_ms};
use crate::serve::submission::SubmissionId;
use crate::state::State;

/// How long a write is tried again while the disk is full or broken.
const STORE_PATIENCE: Duration = Duration::from_secs(600);
/// Pause between two such tries.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// The heart of `serve`.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) store: Store,
    pub(crate) state: State,
    pub(crate) setup: Setup,
    /// Something changed that the dispatcher has to look at.
    pub(crate) changed: Notify,
    /// No run begins any more.
    pub(crate) draining: CancellationToken,
    /// Nobody waits for anything any more.
    pub(crate) ending: CancellationToken,
    /// All that happens has happened; who listens hears the rest and is let go.
    pub(crate) over: CancellationToken,
    shared: Mutex<Shared>,
}

/// What changes while it runs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) live: HashMap<SubmissionId, Live>,
    /// Runs that could not be ended yet; nothing may start beside them.
    pub(crate) leftovers: Vec<Leftover>,
    /// Why nothing can be written down at present.
    pub(crate) trouble: Option<String>,
}

/// A run that may still be alive somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub(crate) submission: SubmissionId,
    pub(crate) group: Option<GroupName>,
    pub(crate) run: RunId,
}

/// The strings on a live run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    pub(crate) group: Option<GroupName>,
    /// A follow-up waits in the store.
    pub(crate) follow_up: Arc<Notify>,
    /// Whether messages to the group are a part of this conversation.
    pub(crate) takes_messages: bool,
    /// The present turn is to stop.
    pub(crate) interrupt: Arc<Notify>,
    /// No follow-ups come any more.
    pub(crate) close: CancellationToken,
    /// The run is to end now.
    pub(crate) stop: CancellationToken,
    /// Answers to what its agent asked for.
    pub(crate) answers: Arc<Mutex<VecDeque<RunControl>>>,
    pub(crate) answered: Arc<Notify>,
    /// Its caller gave it up, so that it is not tried again.
    pub(crate) is_given_up: Arc<AtomicBool>,
}

impl Hub {
    pub(crate) fn new(store: Store, state: State, setup: Setup) -> Self {
        let queue = Queue::new(setup.limits());
        Self {
            store,
            state,
            setup,
            changed: Notify::new(),
            draining: CancellationToken::new(),
            ending: CancellationToken::new(),
            over: CancellationToken::new(),
            shared: Mutex::new(Shared {
                queue,
                live: HashMap::new(),
                leftovers: Vec::new(),
                trouble: None,
            }),
        }
    }

    /// The shared part. It is never held across a wait.
    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a submission into the queue.
    pub(crate) fn enqueue(&self, waiting: Waiting) {
        let longest = self.setup.retry().longest_delay;
        let wait = remaining(waiting.due, now_ms(), longest);
        let (id, group, kind) = (waiting.id, waiting.group, waiting.kind);
        self.shared()
            .queue
            .push(id, group, kind, Instant::now() + wait);
        self.changed.notify_one();
    }

    /// The live run of a group that still takes messages, if there is one.
    pub(crate) fn live_run_of(&self, group: &GroupName) -> Option<SubmissionId> {
        let shared = self.shared();
        let mut live = shared.live.iter();
        let found = live.find(|(_, live)| {
            live.takes_messages && live.group.as_ref() == Some(group) && !live.close.is_cancelled()
        });
        found.map(|(id, _)| *id)
    }

    /// Does `work` on the store, again and again while the disk is in trouble:
    /// what has happened must be written down before anything else does.
    ///
    /// # Errors
    /// It did not work for ten minutes, or until the end.
    pub(crate) async fn insist<T, F>(&self, work: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let deadline = Instant::now() + STORE_PATIENCE;
        loop {
            let error = match work().await {
                Ok(done) => {
                    self.set_trouble(None);
                    return Ok(done);
                }
                Err(error) => error,
            };
            self.set_trouble(Some(&error));
            tokio::select! {
                () = tokio::time::sleep(STORE_PAUSE) => {}
                () = self.ending.cancelled() => return Err(error),
            }
            if Instant::now() > deadline {
                return Err(error);
            }
        }
    }

    /// Notes that the store is in trouble, or out of it, and says so once.
    fn set_trouble(&self, error: Option<&Error>) {
        let trouble = error.map(Error::one_line);
        let before = std::mem::replace(&mut self.shared().trouble, trouble.clone());
        match (before, trouble) {
            (None, Some(_)) => {
                if let Some(error) = error {
                    crate::terminal::output::error(error);
                }
            }
            (Some(_), None) => {
                crate::terminal::output::note("the queue can be written again");
                self.changed.notify_one();
            }
            _ => {}
        }
    }

    /// Whether a run of this submission would meet one that is not gone.
    pub(crate) fn meets_a_leftover(&self, id: SubmissionId, group: Option<&GroupName>) -> bool {
        let mut shared = self.shared();
        let state = &self.state;
        shared.leftovers.retain(|left| state.knows(&left.run));
        shared.leftovers.iter().any(|left| {
            left.submission == id || (left.group.is_some() && left.group.as_ref() == group)
        })
    }
}

/// Most answers that wait for a run.
const MAX_ANSWERS: usize = 1000;

impl Live {
    /// Hands in an answer; false when too many wait.
    pub(crate) fn answer(&self, answer: RunControl) -> bool {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = answers.len() < MAX_ANSWERS;
        if has_room {
            answers.push_back(answer);
            self.answered.notify_one();
        }
        has_room
    }

    /// Waits for the next answer.
    pub(crate) async fn next_answer(&self) -> RunControl {
        loop {
            let answered = self.answered.notified();
            if let Some(answer) = self.take_answer() {
                return answer;
            }
            answered.await;
        }
    }

    fn take_answer(&self) -> Option<RunControl> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.pop_front()
    }

    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
        self.stop.cancel();
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }
}
