//! The time of day, which the ends of tokens are given in.

use std::time::{Duration, SystemTime};

/// Longest sleep. A machine that was suspended finds out this late that a
/// token has ended, as timers stand still meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// A source of the time of day.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clock {
    /// The system's.
    System,
    /// The runtime's, which tests can stop and advance.
    #[cfg(test)]
    Runtime {
        start: SystemTime,
        started: tokio::time::Instant,
    },
}

impl Clock {
    #[cfg(test)]
    pub(super) fn of_runtime() -> Self {
        Self::Runtime {
            start: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            started: tokio::time::Instant::now(),
        }
    }

    pub(super) fn now(self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            #[cfg(test)]
            Self::Runtime { start, started } => start + started.elapsed(),
        }
    }

    /// Waits for a moment; for ever when there is none.
    pub(super) async fn reached(self, moment: Option<SystemTime>) {
        let Some(moment) = moment else {
            return std::future::pending().await;
        };
        while let Ok(left) = moment.duration_since(self.now())
            && !left.is_zero()
        {
            tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
        }
    }
}
