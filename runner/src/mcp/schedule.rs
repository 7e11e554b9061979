//! When a task runs: the three kinds of schedule and their rules.

use jiff::civil::DateTime;
use schemars::JsonSchema;
use serde::Deserialize;

/// The kinds of schedule that a task can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleType {
    /// Recurring at the times of a cron expression.
    Cron,
    /// Recurring every so many milliseconds.
    Interval,
    /// Once, at a local time.
    Once,
}

impl ScheduleType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cron, Self::Interval, Self::Once];

    /// Its name, as requests give it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Interval => "interval",
            Self::Once => "once",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Checks a value of this kind.
    ///
    /// # Errors
    /// The reason, described for the model.
    pub fn check(self, value: &str) -> Result<(), String> {
        match self {
            Self::Cron => check_cron(value),
            Self::Interval => check_interval(value),
            Self::Once => check_once(value),
        }
    }
}

fn check_cron(value: &str) -> Result<(), String> {
    value.parse::<croner::Cron>().map(drop).map_err(|error| {
        format!(
            "Invalid cron: \"{value}\" ({error}). Use five fields, like \"0 9 * * *\" for daily \
             at 9am or \"*/5 * * * *\" for every 5 minutes."
        )
    })
}

fn check_interval(value: &str) -> Result<(), String> {
    // 2^53 - 1, the largest whole number that a JavaScript host can hold.
    const MAX_MILLIS: u64 = 9_007_199_254_740_991;
    match value.parse() {
        Ok(1..=MAX_MILLIS) => Ok(()),
        _ => Err(format!(
            "Invalid interval: \"{value}\". It must be a whole number of milliseconds above 0, \
             like \"300000\" for 5 minutes."
        )),
    }
}

fn check_once(value: &str) -> Result<(), String> {
    if has_zone(value) {
        return Err(format!(
            "The time must be local, without a time zone. Got \"{value}\"; use a form like \
             \"2026-02-01T15:30:00\"."
        ));
    }
    value.parse::<DateTime>().map(drop).map_err(|error| {
        format!("Invalid time: \"{value}\" ({error}). Use local time like \"2026-02-01T15:30:00\".")
    })
}

/// Whether a time ends in `Z` or an offset such as `+01:00`.
fn has_zone(value: &str) -> bool {
    let is_offset = |end: &[u8]| {
        matches!(end, [b'+' | b'-', a, b, b':', c, d]
            if [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()))
    };
    value.ends_with(['Z', 'z'])
        || value
            .as_bytes()
            .last_chunk::<6>()
            .is_some_and(|end| is_offset(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: ScheduleType, good: &[&str], bad: &[&str]) {
        for value in good {
            assert_eq!(kind.check(value), Ok(()), "{value}");
        }
        for value in bad {
            assert!(kind.check(value).is_err(), "{value}");
        }
    }

    #[test]
    fn cron_must_parse() {
        check(
            ScheduleType::Cron,
            &["0 9 * * *", "*/5 * * * *", "0 9 * * 1-5", "30 0 9 * * MON"],
            &["", "daily", "* * *", "61 * * * *", "0 9 * * * * * *"],
        );
    }

    #[test]
    fn an_interval_is_a_whole_number_above_zero() {
        check(
            ScheduleType::Interval,
            &["1", "300000"],
            &[
                "",
                "0",
                "-1",
                "1.5",
                "5m",
                "99999999999999999999",
                "9007199254740992",
            ],
        );
    }

    #[test]
    fn once_is_a_local_time() {
        check(
            ScheduleType::Once,
            &[
                "2026-02-01T15:30:00",
                "2026-02-01 15:30",
                "2026-02-01T15:30:00.5",
                "2026-02-01",
            ],
            &[
                "",
                "tomorrow",
                "2026-02-01T15:30:00Z",
                "2026-02-01T15:30:00+01:00",
                "2026-02-01T15:30:00-05:00",
                "2026-02-30T00:00:00",
                "2026-02-01T25:00:00",
            ],
        );
    }
}
