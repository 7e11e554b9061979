//! Times in the configuration, such as `"90s"`, `"10m"` or `"2h"`.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Unexpected};

const ACCEPTED: &str = "a time from 1s to 30d, such as \"90s\", \"10m\" or \"2h\"";

/// Reads a time: a whole number and one of the units s, m, h and d.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(input)?;
    parse(&text).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &ACCEPTED))
}

fn parse(text: &str) -> Option<Duration> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = is_number
        .then(|| number.parse::<u64>().ok())??
        .checked_mul(unit)?;
    (1..=30 * 86_400)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_number_a_unit_and_bounds() {
        assert_eq!(parse("90s"), Some(Duration::from_secs(90)));
        assert_eq!(parse("30d"), Some(Duration::from_secs(2_592_000)));
        for wrong in [
            "",
            "s",
            "0s",
            "31d",
            "1",
            "+1s",
            "1.5h",
            "1 m",
            "1M",
            "99999999999999999999d",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
