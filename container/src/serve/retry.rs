//! Retries: which failures are tried again, and when.
//!
//! An agent may have acted on the world before its run failed, so only what
//! did not reach the agent is tried again unasked.

use std::num::NonZeroU32;
use std::time::Duration;

use drawbridge_shared::exit::Exit;
use serde::{Deserialize, Serialize};

use crate::serve::submission::SubmissionId;

/// Most retries of a dead letter by a person. Each allows one
/// attempt more, so that an input which kills its runs comes to rest.
pub(crate) const MAX_MANUAL_RETRIES: u32 = 3;
/// Longest wait that an upstream may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Class of a failure: whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Class {
    /// Nothing was started, or the agent could not.
    NeverStarted,
    /// The agent had the message and did not finish its work.
    AgentFailed,
    /// The engine, the host or the launcher failed under the run.
    Infrastructure,
}

impl Class {
    /// The class of an end, from its exit code and from how far the run was.
    pub(crate) const fn of(exit: Exit, reached_agent: bool) -> Self {
        match exit {
            Exit::Usage | Exit::NotStarted => Self::NeverStarted,
            Exit::Infrastructure | Exit::Interrupted => Self::Infrastructure,
            Exit::Success | Exit::AgentFailed | Exit::TimedOut | Exit::Child(_) => {
                if reached_agent {
                    Self::AgentFailed
                } else {
                    Self::NeverStarted
                }
            }
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NeverStarted => "never-started",
            Self::AgentFailed => "agent-failed",
            Self::Infrastructure => "infrastructure",
        }
    }
}

/// One attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    /// Exit code that `drawbridge run` would have ended with.
    pub(crate) code: u8,
    /// Whether the agent had the message.
    pub(crate) reached_agent: bool,
    pub(crate) reason: String,
    /// The reason in words of ours alone: the other may quote the agent or its log.
    pub(crate) summary: String,
    pub(crate) hint: Option<String>,
    /// Time for which the upstream asks not to be called.
    pub(crate) retry_after: Option<Duration>,
    /// The last lines of the runner's log, without secrets.
    pub(crate) log: Vec<String>,
}

/// The way out when an agent was cut short that may have done something.
pub(crate) fn inspect_hint(id: SubmissionId) -> String {
    format!("look at what it did, then `drawbridge dead-letter retry {id}`")
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// Attempts that a submission gets by itself.
    pub(crate) max_attempts: NonZeroU32,
    /// Wait before the second attempt; each later one is twice as long.
    pub(crate) first_delay: Duration,
    pub(crate) longest_delay: Duration,
    /// Whether to repeat work that the agent may have done in part.
    pub(crate) retries_agent_failures: bool,
}

/// Fate of a submission after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is tried again after this time.
    Again(Duration),
    /// It becomes a dead letter.
    GiveUp,
}

impl RetryPolicy {
    /// Decides after attempt number `attempt` of `allowed`; `random` is between
    /// 0 and 1, and spreads what failed together.
    pub(crate) fn after(&self, failure: &Failure, attempt: u32, allowed: u32, random: f64) -> Next {
        let may_repeat = !failure.reached_agent || self.retries_agent_failures;
        if !may_repeat || attempt >= allowed {
            return Next::GiveUp;
        }
        let asked = failure.retry_after.unwrap_or_default();
        let delay = self.delay(attempt, random);
        Next::Again(delay.max(asked.min(LONGEST_RETRY_AFTER)))
    }

    /// Between half of the full delay and all of it.
    fn delay(&self, attempt: u32, random: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let full = self.first_delay.saturating_mul(1 << doublings);
        full.min(self.longest_delay)
            .mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

/// Time left until a moment of the wall clock.
///
/// The clock may have been set meanwhile: nobody waits longer than was meant.
pub(crate) fn remaining(due_ms: i64, now_ms: i64, longest: Duration) -> Duration {
    let millis = u64::try_from(due_ms.saturating_sub(now_ms)).unwrap_or(0);
    Duration::from_millis(millis).min(longest.max(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        max_attempts: NonZeroU32::new(3).unwrap(),
        first_delay: Duration::from_secs(4),
        longest_delay: Duration::from_secs(60),
        retries_agent_failures: false,
    };

    fn failure(class: Class, reached_agent: bool) -> Failure {
        Failure {
            class,
            code: 4,
            reached_agent,
            reason: "it failed".to_owned(),
            summary: "it failed".to_owned(),
            hint: None,
            retry_after: None,
            log: Vec::new(),
        }
    }

    #[test]
    fn the_class_comes_from_exit_code_and_phase() {
        let cases = [
            (Exit::Usage, false, Class::NeverStarted),
            (Exit::NotStarted, false, Class::NeverStarted),
            (Exit::AgentFailed, false, Class::NeverStarted),
            (Exit::AgentFailed, true, Class::AgentFailed),
            (Exit::TimedOut, true, Class::AgentFailed),
            (Exit::Infrastructure, true, Class::Infrastructure),
            (Exit::Interrupted, false, Class::Infrastructure),
        ];
        for (exit, reached, class) in cases {
            assert_eq!(Class::of(exit, reached), class, "{exit:?} {reached}");
        }
    }

    #[test]
    fn what_reached_the_agent_is_repeated_only_when_asked_for() {
        let may = RetryPolicy {
            retries_agent_failures: true,
            ..POLICY
        };
        for class in [Class::AgentFailed, Class::Infrastructure] {
            let reached = failure(class, true);
            assert_eq!(POLICY.after(&reached, 1, 3, 0.5), Next::GiveUp);
            assert!(matches!(may.after(&reached, 1, 3, 0.5), Next::Again(_)));
        }
        let never = failure(Class::NeverStarted, false);
        assert!(matches!(POLICY.after(&never, 1, 3, 0.5), Next::Again(_)));
        assert_eq!(POLICY.after(&never, 3, 3, 0.5), Next::GiveUp);
    }

    #[test]
    fn an_upstreams_wish_is_a_lower_bound_with_an_upper_one() {
        let mut asked = failure(Class::Infrastructure, false);
        asked.retry_after = Some(Duration::from_secs(90));
        let ninety = Next::Again(Duration::from_secs(90));
        assert_eq!(POLICY.after(&asked, 1, 3, 0.0), ninety);
        asked.retry_after = Some(Duration::from_secs(86_400));
        let hour = Next::Again(LONGEST_RETRY_AFTER);
        assert_eq!(POLICY.after(&asked, 1, 3, 0.0), hour);
    }

    proptest! {
        #[test]
        fn delays_double_within_their_bounds(attempt in 1_u32..100, random in 0.0..1.0) {
            let full = Duration::from_secs(4 << (attempt - 1).min(10)).min(POLICY.longest_delay);
            let delay = POLICY.delay(attempt, random);
            prop_assert!(delay >= full / 2 && delay <= full, "{delay:?} of {full:?}");
        }

        /// Also when the clock was set back or forward in between.
        #[test]
        fn a_clock_jump_never_makes_anybody_wait_for_long(due: i64, now: i64) {
            let wait = remaining(due, now, POLICY.longest_delay);
            prop_assert!(wait <= LONGEST_RETRY_AFTER);
            prop_assert!(now < due || wait.is_zero());
        }
    }
}
