//! Times in configurations and flags, such as `"90s"`, `"10m"` or `"2h"`.

use std::time::Duration;

/// The units, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Reads a time: a whole number and one of the units `ms`, `s`, `m`, `h` and
/// `d`. Whether it is long or short enough is up to the caller.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let unit = &text[digits.len()..];
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(*millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_number_and_a_unit() {
        assert_eq!(parse("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(parse("90s"), Some(Duration::from_secs(90)));
        assert_eq!(parse("30d"), Some(Duration::from_secs(2_592_000)));
        assert_eq!(parse("0s"), Some(Duration::ZERO));
        for wrong in [
            "",
            "s",
            "1",
            "+1s",
            "-1s",
            "1.5h",
            "1 m",
            "1M",
            "1sm",
            "99999999999999999999d",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
