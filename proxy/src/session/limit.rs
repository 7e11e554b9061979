//! The use of a session, counted against its limits.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Session, SessionLimits};
use crate::policy::Refusal;

/// The assumed cost of a request that has not reported it, of input and of
/// output, unless one of its session has cost more. Agents let a model write
/// about as much in one answer unless they are told otherwise.
const EXPECTED_TOKENS: u64 = 32_000;

/// Counters of one session.
#[derive(Debug)]
pub(crate) struct Usage {
    in_flight: AtomicU32,
    requests: AtomicU64,
    input: Tokens,
    output: Tokens,
    rate: Option<Mutex<Bucket>>,
}

/// Tokens of one kind that a session has used.
#[derive(Debug, Default)]
struct Tokens {
    spent: AtomicU64,
    /// The most that one request cost.
    largest: AtomicU64,
}

impl Tokens {
    fn add(&self, tokens: u64) {
        self.largest.fetch_max(tokens, Ordering::Relaxed);
        self.spent.fetch_add(tokens, Ordering::Relaxed);
    }

    fn is_used_up(&self, limit: Option<u64>) -> bool {
        limit.is_some_and(|limit| self.spent.load(Ordering::Relaxed) >= limit)
    }

    /// Whether a budget is enough for one more request than are in flight. The cost
    /// of an answer is known at its end only, so without this, requests that begin
    /// together would each spend the whole rest. To one that is alone belongs
    /// whatever is left.
    fn has_capacity(&self, limit: Option<u64>, in_flight: u32) -> bool {
        let expected = self.largest.load(Ordering::Relaxed).max(EXPECTED_TOKENS);
        let reserved = expected.saturating_mul(u64::from(in_flight));
        let taken = self.spent.load(Ordering::Relaxed).saturating_add(reserved);
        in_flight == 0 || limit.is_none_or(|limit| taken < limit)
    }
}

impl Usage {
    pub(crate) fn new(limits: &SessionLimits) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            input: Tokens::default(),
            output: Tokens::default(),
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
            self.input.spent.load(Ordering::Relaxed),
            self.output.spent.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn add_tokens(&self, input: u64, output: u64) {
        self.input.add(input);
        self.output.add(output);
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
        // A request that is not in flight any more was charged before.
        let before = session.usage.in_flight.fetch_add(1, Ordering::Acquire);
        // From here on, dropping the admission takes the request back.
        let admission = Self { session };
        let Usage { input, output, .. } = &admission.session.usage;
        let budgets = [
            ("input", input, limits.input_tokens),
            ("output", output, limits.output_tokens),
        ];
        let used_up = budgets
            .iter()
            .find(|(_, used, limit)| used.is_used_up(*limit));
        if let Some((name, ..)) = used_up {
            return Err(Refusal::OverBudget(name));
        }
        if limits.concurrent.is_some_and(|limit| before >= limit) {
            return Err(Refusal::TooManyConcurrent);
        }
        let full = budgets
            .iter()
            .find(|(_, used, limit)| !used.has_capacity(*limit, before));
        if let Some((name, ..)) = full {
            return Err(Refusal::BudgetReserved(name));
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

    /// Whether what the request costs has to be read from its answer.
    pub(crate) fn counts_tokens(&self) -> bool {
        let limits = &self.session.spec.limits;
        limits.input_tokens.is_some() || limits.output_tokens.is_some()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.session.usage.in_flight.fetch_sub(1, Ordering::Release);
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

    /// The number of requests without a reported cost that get in at once.
    fn admitted_at_once(tokens: &Tokens, limit: u64) -> usize {
        let limit = Some(limit);
        let in_flight = (0..1000).take_while(|n| tokens.has_capacity(limit, *n));
        in_flight.count()
    }

    #[test]
    fn requests_at_once_share_what_is_left_of_a_budget() {
        let tokens = Tokens::default();
        for (limit, count) in [(1, 1), (32_000, 1), (32_001, 2), (200_000, 7)] {
            assert_eq!(admitted_at_once(&tokens, limit), count, "{limit}");
        }
        tokens.add(150_000);
        assert_eq!(admitted_at_once(&tokens, 200_000), 1);
        // One was larger than expected, so the next ones may be.
        assert_eq!(admitted_at_once(&tokens, 500_000), 3);
        assert!(tokens.is_used_up(Some(150_000)) && !tokens.is_used_up(Some(150_001)));
    }

    #[test]
    fn a_rate_of_zero_allows_nothing() {
        let mut bucket = Bucket::full(0);
        let later = bucket.filled + Duration::from_secs(600);
        assert!(bucket.take(later).unwrap_err() > Duration::from_secs(60));
    }
}
