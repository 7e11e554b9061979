//! The byte strings to hide, and how they are found fast.

use std::fmt;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use zeroize::Zeroizing;

use super::{MASK, forms};

/// How much of each pattern the fast search knows. Its tables cannot be zeroed,
/// so they get no more of a secret than they need; four bytes are what its
/// vector code compares at once.
const PREFIX_BYTES: usize = 4;

/// A set of byte strings to hide, shared by all streams it applies to.
///
/// Cloning is cheap. The strings are zeroed when the last clone is dropped.
#[derive(Clone)]
pub struct Patterns {
    shared: Arc<Shared>,
}

struct Shared {
    /// Sorted, without duplicates and without empty ones.
    patterns: Vec<Zeroizing<Vec<u8>>>,
    /// Finds where a pattern may begin; none when there are no patterns.
    prefixes: Option<AhoCorasick>,
    begins_pattern: [bool; 256],
    longest: usize,
}

/// The patterns cannot be searched for.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare the search for injected secrets in answers")]
pub struct PatternsError(#[from] aho_corasick::BuildError);

impl Patterns {
    /// The patterns that hide nothing, for routes without a credential.
    ///
    /// # Errors
    /// None in practice; see [`Patterns::new`].
    pub fn none() -> Result<Self, PatternsError> {
        Self::new([])
    }

    /// Hides `secrets` in every form of [`forms`](super::forms()).
    ///
    /// # Errors
    /// The set is too large to search for, which takes millions of secrets.
    pub fn of_secrets<'a>(
        secrets: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, PatternsError> {
        Self::new(secrets.into_iter().flat_map(forms))
    }

    /// Hides exactly these byte strings. Empty ones are ignored.
    ///
    /// # Errors
    /// The set is too large to search for, which takes millions of patterns.
    pub fn new(
        patterns: impl IntoIterator<Item = Zeroizing<Vec<u8>>>,
    ) -> Result<Self, PatternsError> {
        let mut patterns: Vec<_> = patterns.into_iter().filter(|p| !p.is_empty()).collect();
        patterns.sort_by(|a, b| a.as_slice().cmp(b.as_slice()));
        patterns.dedup();
        let mut begins_pattern = [false; 256];
        for pattern in &patterns {
            begins_pattern[usize::from(pattern[0])] = true;
        }
        let prefixes = (!patterns.is_empty())
            .then(|| {
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostFirst)
                    .build(patterns.iter().map(|p| &p[..p.len().min(PREFIX_BYTES)]))
            })
            .transpose()?;
        let longest = patterns.iter().map(|p| p.len()).max().unwrap_or_default();
        let shared = Arc::new(Shared {
            patterns,
            prefixes,
            begins_pattern,
            longest,
        });
        Ok(Self { shared })
    }

    /// Whether there is nothing to hide.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.patterns.is_empty()
    }

    /// The first occurrence that begins at `from` or later, as start and end:
    /// where several begin at one place, the longest.
    pub(super) fn find(&self, bytes: &[u8], mut from: usize) -> Option<(usize, usize)> {
        let prefixes = self.shared.prefixes.as_ref()?;
        loop {
            let start = prefixes.find(Input::new(bytes).range(from..))?.start();
            let found = &bytes[start..];
            let longest = self
                .shared
                .patterns
                .iter()
                .filter(|pattern| found.starts_with(pattern))
                .map(|pattern| pattern.len())
                .max();
            if let Some(length) = longest {
                return Some((start, start + length));
            }
            from = start + 1;
        }
    }

    /// Masks in `shown` every byte that an occurrence in `seen` covers.
    pub(super) fn mask(&self, seen: &[u8], shown: &mut [u8]) {
        let mut from = 0;
        // The search goes on one byte after each start, not after each end:
        // the next occurrence may overlap this one.
        while let Some((start, end)) = self.find(seen, from) {
            shown[start..end].fill(MASK);
            from = start + 1;
        }
    }

    /// Length of the longest end of `bytes` that is the beginning of a pattern,
    /// but not a whole one.
    pub(super) fn beginning_at_end(&self, bytes: &[u8]) -> usize {
        let longest = self.shared.longest.saturating_sub(1).min(bytes.len());
        let first = bytes.len() - longest;
        (first..bytes.len())
            .filter(|&start| self.shared.begins_pattern[usize::from(bytes[start])])
            .find(|&start| self.is_beginning(&bytes[start..]))
            .map_or(0, |start| bytes.len() - start)
    }

    fn is_beginning(&self, end: &[u8]) -> bool {
        let patterns = &self.shared.patterns;
        // In sorted order, what begins with `end` follows `end` itself.
        let behind = patterns.partition_point(|pattern| pattern.as_slice() <= end);
        patterns.get(behind).is_some_and(|p| p.starts_with(end))
    }
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patterns")
            .field("count", &self.shared.patterns.len())
            .finish_non_exhaustive()
    }
}
