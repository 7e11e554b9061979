//! Percentiles of a run, and ratios over rounds.

use std::fmt;

/// Nanoseconds, sorted.
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    pub(crate) fn new(mut nanoseconds: Vec<u64>) -> Self {
        nanoseconds.sort_unstable();
        Self(nanoseconds)
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// In microseconds; `permille` of all are at most as long.
    #[expect(
        clippy::cast_precision_loss,
        reason = "latencies are far below 2^52 ns"
    )]
    pub(crate) fn percentile(&self, permille: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let rank = self.0.get(last * permille / 1000).copied();
        rank.map_or(f64::NAN, |nanoseconds| nanoseconds as f64 / 1000.0)
    }
}

/// The same figure of several rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(pub(crate) Vec<f64>);

impl Series {
    /// Whether it was measured at all.
    pub(crate) fn is_known(&self) -> bool {
        self.0.iter().all(|value| value.is_finite())
    }

    pub(crate) fn spread(&self) -> Spread {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        Spread {
            min: at(0),
            median: at(sorted.len() / 2),
            max: at(sorted.len().saturating_sub(1)),
        }
    }

    /// Round by round, this figure over another's.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .zip(&other.0)
                .map(|(ours, theirs)| ours / theirs)
                .collect(),
        )
    }

    /// Round by round, this figure less another's.
    pub(crate) fn less(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .zip(&other.0)
                .map(|(ours, theirs)| ours - theirs)
                .collect(),
        )
    }
}

/// The least, the middle and the largest of a series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Decimals that the median is shown with.
    fn digits(&self) -> usize {
        match self.median.abs() {
            large if large >= 1000.0 => 0,
            middle if middle >= 20.0 => 1,
            _ => 2,
        }
    }

    /// The median alone, as it is shown.
    pub(crate) fn middle(&self) -> String {
        format!("{:.*}", self.digits(), self.median)
    }

    /// Median, least and largest with tabs between them, to three decimals.
    pub(crate) fn columns(&self) -> String {
        let rounded = [self.median, self.min, self.max].map(|value| (value * 1000.0).round());
        rounded.map(|value| (value / 1000.0).to_string()).join("\t")
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or_else(|| self.digits());
        let Self { min, median, max } = self;
        write!(f, "{median:.digits$} ({min:.digits$} to {max:.digits$})")
    }
}
