//! What a session has used, counted against its limits.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Session, SessionLimits};
use crate::error::Refusal;

/// Counters of one session.
#[derive(Debug)]
pub(crate) struct Usage {
    in_flight: AtomicU32,
    requests: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    rate: Option<Mutex<Bucket>>,
}

impl Usage {
    pub(crate) fn new(limits: &SessionLimits) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            input_tokens: AtomicU64::new(0),
            output_tokens: AtomicU64::new(0),
            rate: limits
                .requests_per_minute
                .map(|limit| Mutex::new(Bucket::full(limit))),
        }
    }

    /// Requests in flight now.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests admitted so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Input and output tokens used so far.
    pub(crate) fn tokens(&self) -> (u64, u64) {
        (
            self.input_tokens.load(Ordering::Relaxed),
            self.output_tokens.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn add_tokens(&self, input: u64, output: u64) {
        self.input_tokens.fetch_add(input, Ordering::Relaxed);
        self.output_tokens.fetch_add(output, Ordering::Relaxed);
    }
}

/// A request that counts as in flight until this is dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) session: Arc<Session>,
}

impl Admission {
    /// Counts a request against the session's limits.
    ///
    /// # Errors
    /// A limit is reached; the request is not counted then.
    pub(crate) fn admit(session: Arc<Session>) -> Result<Self, Refusal> {
        let limits = session.spec.limits;
        let (input, output) = session.usage.tokens();
        if limits.input_tokens.is_some_and(|limit| input >= limit) {
            return Err(Refusal::OverBudget("input"));
        }
        if limits.output_tokens.is_some_and(|limit| output >= limit) {
            return Err(Refusal::OverBudget("output"));
        }
        let before = session.usage.in_flight.fetch_add(1, Ordering::Relaxed);
        // From here on, dropping the admission takes the request back.
        let admission = Self { session };
        if limits.concurrent.is_some_and(|limit| before >= limit) {
            return Err(Refusal::TooManyConcurrent);
        }
        if let Some(rate) = &admission.session.usage.rate {
            let mut bucket = rate.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(retry_after) = bucket.take(Instant::now()) {
                return Err(Refusal::TooFast { retry_after });
            }
        }
        let requests = &admission.session.usage.requests;
        requests.fetch_add(1, Ordering::Relaxed);
        Ok(admission)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.session.usage.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A token bucket that holds one minute's worth of requests.
#[derive(Debug)]
struct Bucket {
    per_minute: u32,
    level: f64,
    filled: Instant,
}

impl Bucket {
    fn full(per_minute: u32) -> Self {
        Self {
            per_minute,
            level: f64::from(per_minute),
            filled: Instant::now(),
        }
    }

    /// Takes one request out, or says how long until there is one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let per_second = f64::from(self.per_minute) / 60.0;
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.level = (self.level + elapsed * per_second).min(f64::from(self.per_minute));
        self.filled = now;
        if self.level >= 1.0 {
            self.level -= 1.0;
            return Ok(());
        }
        let wait = if self.per_minute == 0 {
            Duration::from_secs(3600)
        } else {
            Duration::from_secs_f64((1.0 - self.level) / per_second)
        };
        Err(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_allows_its_rate_and_no_more() {
        let mut bucket = Bucket::full(60);
        let start = bucket.filled;
        let taken = (0..100).filter(|_| bucket.take(start).is_ok()).count();
        assert_eq!(taken, 60);
        let wait = bucket.take(start).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        bucket.take(start + Duration::from_millis(1001)).unwrap();
        bucket
            .take(start + Duration::from_millis(1002))
            .unwrap_err();
    }

    #[test]
    fn a_rate_of_zero_allows_nothing() {
        let mut bucket = Bucket::full(0);
        let later = bucket.filled + Duration::from_secs(600);
        assert!(bucket.take(later).unwrap_err() > Duration::from_secs(60));
    }
}
