//! Arguments and settings of `serve`.

use std::time::Duration;

use clap::Args;

use crate::config::{FlagValues, Key, ServeKey, ServeSettings};
use crate::serve::queue::Limits;
use crate::serve::retry::RetryPolicy;

/// Longest wait between two attempts, unless an upstream asks for a longer one.
const LONGEST_DELAY: Duration = Duration::from_secs(300);

/// Arguments of `drawbridge serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Also take commands as NDJSON on standard input, and write answers and
    /// events to standard output. The end of the input ends the program.
    #[arg(long)]
    pub(super) stdio: bool,
    /// Let submissions add arguments to the command lines of their agents.
    #[arg(long)]
    pub(super) agent_args: bool,
    #[command(flatten)]
    pub(super) settings: FlagValues<ServeKey>,
    #[command(flatten)]
    pub(super) runs: FlagValues<Key>,
}

/// Settings of a running `serve`, and of its runs.
#[derive(Debug)]
pub(crate) struct Setup {
    settings: ServeSettings,
    /// Flags of all runs, which win over environment and file.
    runs: FlagValues<Key>,
    /// Whether submissions may have `agentArgs`.
    allows_agent_args: bool,
}

impl Setup {
    pub(crate) fn new(settings: ServeSettings, mut runs: FlagValues<Key>) -> Self {
        if let Some(program) = &settings.on_request {
            runs.give(Key::OnRequest, program);
        }
        Self {
            settings,
            runs,
            allows_agent_args: false,
        }
    }

    /// This setup with `agentArgs` in submissions as `serve --agent-args` has it.
    pub(super) const fn with_agent_args(mut self, allowed: bool) -> Self {
        self.allows_agent_args = allowed;
        self
    }

    pub(super) const fn allows_agent_args(&self) -> bool {
        self.allows_agent_args
    }

    /// Flags of all runs, which win over environment and file.
    pub(super) const fn runs(&self) -> &FlagValues<Key> {
        &self.runs
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
