//! Amounts as users write them: sizes and processor time.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

/// A number of bytes, written as `512m` or `4g`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(u64);

impl ByteSize {
    /// A size in mebibytes.
    #[must_use]
    #[cfg(test)]
    pub(crate) const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The size in bytes.
    #[must_use]
    pub(crate) const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "a size of at least 6m, such as \"512m\" or \"4g\"";
        let (digits, shift) = match text.as_bytes().last() {
            Some(b'k') => (&text[..text.len() - 1], 10),
            Some(b'm') => (&text[..text.len() - 1], 20),
            Some(b'g') => (&text[..text.len() - 1], 30),
            _ => return Err(RULE),
        };
        let number: u64 = digits.parse().map_err(|_| RULE)?;
        // Docker refuses to start a container with less than 6 MiB.
        number
            .checked_mul(1 << shift)
            .filter(|bytes| (6 << 20..1 << 50).contains(bytes))
            .map(Self)
            .ok_or(RULE)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes.is_multiple_of(1 << 30) => write!(f, "{}g", bytes >> 30),
            bytes if bytes.is_multiple_of(1 << 20) => write!(f, "{}m", bytes >> 20),
            bytes => write!(f, "{}k", bytes >> 10),
        }
    }
}

/// Processor time, kept in thousandths of one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpus {
    thousandths: u32,
}

impl Cpus {
    /// Whole processors.
    #[must_use]
    pub(crate) const fn whole(count: u32) -> Self {
        Self {
            thousandths: count.saturating_mul(1000),
        }
    }

    /// In thousandths of one processor.
    pub(crate) const fn thousandths(self) -> u32 {
        self.thousandths
    }

    /// No more than this machine has; engines refuse to promise more.
    #[must_use]
    pub(crate) fn at_most_of_this_machine(self) -> Self {
        let here = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let here = Self::whole(u32::try_from(here).unwrap_or(u32::MAX));
        Self {
            thousandths: self.thousandths.min(here.thousandths),
        }
    }
}

impl FromStr for Cpus {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "a number of processors from 0.01 to 1024, such as \"1.5\"";
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) || fraction.len() > 3 || whole.len() > 4 {
            return Err(RULE);
        }
        let whole: u32 = whole.parse().map_err(|_| RULE)?;
        let fraction: u32 = format!("{fraction:0<3}").parse().map_err(|_| RULE)?;
        let thousandths = whole * 1000 + fraction;
        if (10..=1_024_000).contains(&thousandths) {
            Ok(Self { thousandths })
        } else {
            Err(RULE)
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.thousandths / 1000, self.thousandths % 1000);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{fraction:03}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_processors_are_read_and_shown_alike() {
        for text in ["6m", "512m", "4g", "7000k"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        for text in ["", "0", "4", "5m", "-1g", "4G", "1.5g", "99999999999999g"] {
            text.parse::<ByteSize>().unwrap_err();
        }
        for text in ["2", "1.5", "0.25", "0.125"] {
            assert_eq!(text.parse::<Cpus>().unwrap().to_string(), text);
        }
        for text in ["", "0", "0.001", ".5", "1.", "-1", "2e3", "9999"] {
            text.parse::<Cpus>().unwrap_err();
        }
    }
}
