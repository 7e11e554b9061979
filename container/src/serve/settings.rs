//! How `serve` is set up.

use std::time::Duration;

use clap::Args;

use crate::config::{Key, ServeKey, ServeSettings, SettingArgs, TypedServe, TypedSettings};
use crate::serve::queue::Limits;
use crate::serve::retry::RetryPolicy;

/// Longest wait between two attempts, unless an upstream asks for a longer one.
const LONGEST_DELAY: Duration = Duration::from_secs(300);

/// Arguments of `drawbridge serve`. Their defaults are those of `[serve]`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Also take commands as NDJSON on standard input, and write answers and
    /// events to standard output. The end of the input ends the program.
    #[arg(long)]
    pub(super) stdio: bool,
    /// Most runs at one time [default: 5].
    #[arg(long, value_name = "NUMBER")]
    max_runs: Option<String>,
    /// Most submissions that wait in one group [default: 1000].
    #[arg(long, value_name = "NUMBER")]
    max_waiting_per_group: Option<String>,
    /// Most submissions that wait in all [default: 10000].
    #[arg(long, value_name = "NUMBER")]
    max_waiting: Option<String>,
    /// Attempts that a submission gets before it is a dead letter [default: 3].
    #[arg(long, value_name = "NUMBER")]
    max_attempts: Option<String>,
    /// Wait before the second attempt; each later one is twice as long
    /// [default: 5s].
    #[arg(long, value_name = "TIME")]
    retry_delay: Option<String>,
    /// Also repeat work that the agent may have done in part.
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    retry_agent_failures: Option<String>,
    /// How long runs may take to end after a signal [default: 30s].
    #[arg(long, value_name = "TIME")]
    drain: Option<String>,
    /// How long to remember what ended with a result [default: 30d].
    #[arg(long, value_name = "TIME")]
    keep: Option<String>,
    /// Program that answers what agents ask for: one request as JSON on its
    /// standard input, the answer as JSON on its standard output. Without it, or
    /// with `none`, requests are events, and `answer` commands answer them.
    #[arg(long, value_name = "PROGRAM|none")]
    on_request: Option<String>,
    #[command(flatten)]
    pub(super) settings: SettingArgs,
}

impl TypedServe for ServeArgs {
    fn typed(&self, key: ServeKey) -> Option<&str> {
        let value = match key {
            ServeKey::MaxRuns => &self.max_runs,
            ServeKey::MaxWaitingPerGroup => &self.max_waiting_per_group,
            ServeKey::MaxWaiting => &self.max_waiting,
            ServeKey::MaxAttempts => &self.max_attempts,
            ServeKey::RetryDelay => &self.retry_delay,
            ServeKey::RetryAgentFailures => &self.retry_agent_failures,
            ServeKey::Drain => &self.drain,
            ServeKey::Keep => &self.keep,
            ServeKey::OnRequest => &self.on_request,
        };
        value.as_deref()
    }
}

/// What a running `serve` goes by.
#[derive(Debug)]
pub(crate) struct Setup {
    settings: ServeSettings,
    /// What was typed for its runs.
    runs: SettingArgs,
}

impl Setup {
    pub(crate) const fn new(settings: ServeSettings, runs: SettingArgs) -> Self {
        Self { settings, runs }
    }

    pub(crate) const fn drain(&self) -> Duration {
        self.settings.drain
    }

    pub(crate) const fn keep(&self) -> Duration {
        self.settings.keep
    }

    pub(crate) const fn limits(&self) -> Limits {
        Limits {
            runs: self.settings.max_runs,
            waiting_per_group: self.settings.max_waiting_per_group,
            waiting: self.settings.max_waiting,
        }
    }

    pub(crate) const fn retry(&self) -> RetryPolicy {
        RetryPolicy {
            max_attempts: self.settings.max_attempts,
            first_delay: self.settings.retry_delay,
            longest_delay: LONGEST_DELAY,
            retries_agent_failures: self.settings.retry_agent_failures,
        }
    }
}

/// What its runs go by, beside environment and file.
impl TypedSettings for Setup {
    fn typed(&self, key: Key) -> Option<&str> {
        match key {
            Key::OnRequest => self.settings.on_request.as_deref(),
            key => self.runs.typed(key),
        }
    }

    fn mounts(&self) -> Vec<&str> {
        self.runs.mounts()
    }
}
