//! Names that go into argument lists, held to what cannot be taken for more.

use std::fmt;
use std::str::FromStr;

/// A reference to an image, such as `drawbridge/claude:0.1.0`.
///
/// The rule keeps to the characters of the distribution specification's
/// reference grammar, and it cannot start with a dash, so it cannot be taken
/// for a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRef(String);

impl FromStr for ImageRef {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_valid = (1..=255).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-/:@+".contains(&b));
        if is_valid {
            Ok(Self(text.to_owned()))
        } else {
            Err("an image reference such as \"drawbridge/claude:0.1.0\"")
        }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a time zone, such as `Europe/Berlin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimeZone(String);

impl FromStr for TimeZone {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_valid = (1..=64).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphabetic()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_+-/".contains(&b));
        if is_valid {
            Ok(Self(text.to_owned()))
        } else {
            Err("a time zone name such as \"Europe/Berlin\"")
        }
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TimeZone {
    /// The host's zone, from `TZ` or the link `/etc/localtime`.
    #[must_use]
    pub(crate) fn of_host() -> Option<Self> {
        if let Ok(zone) = std::env::var("TZ") {
            return zone.trim_start_matches(':').parse().ok();
        }
        let link = std::fs::read_link("/etc/localtime").ok()?;
        let (_, zone) = link.to_str()?.split_once("zoneinfo/")?;
        zone.parse().ok()
    }
}

/// Random name of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstallId(String);

impl FromStr for InstallId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_valid =
            text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_valid {
            Ok(Self(text.to_owned()))
        } else {
            Err("16 lower-case hexadecimal digits")
        }
    }
}

impl fmt::Display for InstallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_reference_cannot_be_a_flag() {
        for bad in ["", "--privileged", "a b", "a;b", "a\n"] {
            bad.parse::<ImageRef>().unwrap_err();
        }
        for good in ["drawbridge/claude:0.1.0", "reg.io:5000/a/b@sha256:00ff"] {
            good.parse::<ImageRef>().unwrap();
        }
    }
}
