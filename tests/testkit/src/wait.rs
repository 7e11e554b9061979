//! Waiting for events, never for time to pass.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a test waits for an event before it fails. Events come within
/// milliseconds; only a broken program or an overloaded machine needs this.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer. For states that announce
/// themselves to nobody, such as a process or container that is gone.
///
/// # Panics
/// There is no answer within [`PATIENCE`].
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A gate that a stand-in waits at until the test opens it.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug, Default)]
struct GateState {
    is_open: bool,
    arrivals: usize,
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everyone pass, now and later.
    pub fn open(&self) {
        self.0.0.lock().unwrap().is_open = true;
        self.0.1.notify_all();
    }

    /// Waits until the gate is open.
    ///
    /// # Panics
    /// Nobody opens it within twice [`PATIENCE`].
    pub fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.arrivals += 1;
        self.0.1.notify_all();
        let (state, wait) = self
            .0
            .1
            .wait_timeout_while(state, PATIENCE * 2, |state| !state.is_open)
            .unwrap();
        drop(state);
        assert!(!wait.timed_out(), "nobody opened the gate");
    }

    /// Waits until somebody has come to the gate.
    ///
    /// # Panics
    /// Nobody comes within [`PATIENCE`].
    pub fn wait_for_arrival(&self) {
        let state = self.0.0.lock().unwrap();
        let (state, wait) = self
            .0
            .1
            .wait_timeout_while(state, PATIENCE, |state| state.arrivals == 0)
            .unwrap();
        drop(state);
        assert!(!wait.timed_out(), "nobody came to the gate");
    }
}
