//! How `serve` is set up.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::SettingArgs;
use crate::queue::Limits;
use crate::retry::RetryPolicy;

/// Longest wait between two attempts, unless an upstream asks for a longer one.
const LONGEST_DELAY: Duration = Duration::from_secs(300);

/// Arguments of `drawbridge serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Also take commands as NDJSON on standard input, and write answers and
    /// events to standard output. The end of the input ends the program.
    #[arg(long)]
    pub(crate) stdio: bool,
    /// Most runs at one time.
    #[arg(long, value_name = "NUMBER", default_value = "5")]
    max_runs: NonZeroUsize,
    /// Most submissions that wait in one group.
    #[arg(long, value_name = "NUMBER", default_value = "1000")]
    max_waiting_per_group: usize,
    /// Most submissions that wait in all.
    #[arg(long, value_name = "NUMBER", default_value = "10000")]
    max_waiting: usize,
    /// Attempts that a submission gets before it is a dead letter.
    #[arg(long, value_name = "NUMBER", default_value = "3")]
    max_attempts: NonZeroU32,
    /// Wait before the second attempt; each later one is twice as long.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    retry_delay: Duration,
    /// Also repeat work that the agent may have done in part.
    #[arg(long)]
    retry_agent_failures: bool,
    /// How long runs may take to end after a signal.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub(crate) drain: Duration,
    /// How long to remember what ended with a result.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_time)]
    pub(crate) keep: Duration,
    /// Program that answers what agents ask for: one request as JSON on its
    /// standard input, the answer as JSON on its standard output. Without it
    /// requests are events, and `answer` commands answer them.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) on_request: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
}

impl ServeArgs {
    pub(crate) const fn limits(&self) -> Limits {
        Limits {
            runs: self.max_runs,
            waiting_per_group: self.max_waiting_per_group,
            waiting: self.max_waiting,
        }
    }

    pub(crate) const fn retry(&self) -> RetryPolicy {
        RetryPolicy {
            max_attempts: self.max_attempts,
            first_delay: self.retry_delay,
            longest_delay: LONGEST_DELAY,
            retries_agent_failures: self.retry_agent_failures,
        }
    }
}

/// Reads a time such as `200ms`, `90s`, `30m`, `2h` or `30d`.
fn parse_time(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = UNITS
        .iter()
        .find(|(unit, _)| *unit == &text[digits.len()..]);
    let number: Option<u64> = digits.parse().ok();
    number
        .zip(unit)
        .and_then(|(number, (_, millis))| number.checked_mul(*millis))
        .filter(|millis| *millis <= 3650 * 86_400_000)
        .map(Duration::from_millis)
        .ok_or_else(|| "accepted is a time such as 200ms, 90s, 30m, 2h or 30d".to_owned())
}
