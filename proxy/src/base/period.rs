//! Times in the configuration, such as `"90s"`, `"10m"` or `"2h"`.

use std::ops::RangeInclusive;
use std::time::Duration;

use drawbridge_shared::period;
use serde::de::{Deserialize, Deserializer, Error, Unexpected};

const ACCEPTED: &str = "a time from 1s to 30d, such as \"90s\", \"10m\" or \"2h\"";
const RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

/// Reads a time with its unit.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(input)?;
    parse(&text).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &ACCEPTED))
}

fn parse(text: &str) -> Option<Duration> {
    period::parse(text).filter(|time| RANGE.contains(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_bounds() {
        assert_eq!(parse("1s"), Some(Duration::from_secs(1)));
        assert_eq!(parse("30d"), Some(Duration::from_secs(2_592_000)));
        for wrong in ["", "0s", "999ms", "31d", "721h", "1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
