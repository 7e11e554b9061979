//! The byte strings to hide, and how they are found fast.

use std::fmt;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use zeroize::Zeroizing;

use super::{MASK, forms};

/// The length of each pattern that the fast search knows. Its tables cannot be zeroed,
/// so they get no more of a secret than they need; six bytes are one byte
/// escaped in JSON, which four could not tell from any other escape.
const PREFIX_BYTES: usize = 6;

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
    /// By first byte.
    begins_pattern: [bool; 256],
    shortest: usize,
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

    /// Hides `secrets` in every form of `forms`.
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
        let shortest = patterns.iter().map(|p| p.len()).min().unwrap_or(usize::MAX);
        let shared = Arc::new(Shared {
            patterns,
            prefixes,
            begins_pattern,
            shortest,
        });
        Ok(Self { shared })
    }

    /// Whether there is nothing to hide.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.patterns.is_empty()
    }

    /// The number of first bytes of a pattern that reveal too little of it to matter.
    pub(super) fn harmless(&self) -> usize {
        self.shared.shortest / 4
    }

    /// Calls `found` with start and end of each occurrence, of those that begin
    /// at one place with the longest. Returns the length of the longest end of
    /// `bytes` that is the beginning of a pattern, but not a whole one.
    pub(super) fn search(&self, bytes: &[u8], mut found: impl FnMut(usize, usize)) -> usize {
        let Some(prefixes) = &self.shared.prefixes else {
            return 0;
        };
        let mut beginning = None;
        let mut from = 0;
        while let Some(prefix) = prefixes.find(Input::new(bytes).range(from..)) {
            let start = prefix.start();
            let rest = &bytes[start..];
            let patterns = self.shared.patterns.iter();
            let whole = patterns.filter(|pattern| rest.starts_with(pattern));
            if let Some(length) = whole.map(|pattern| pattern.len()).max() {
                found(start, start + length);
            }
            if beginning.is_none() && self.is_beginning(rest) {
                beginning = Some(start);
            }
            // Not behind the occurrence: the next one may overlap it.
            from = start + 1;
        }
        // At the very end there may be less than a prefix.
        let rest = bytes.len().saturating_sub(PREFIX_BYTES - 1)..bytes.len();
        let mut starts = rest.filter(|start| self.is_beginning(&bytes[*start..]));
        let beginning = beginning.into_iter().chain(starts.next()).min();
        beginning.map_or(0, |start| bytes.len() - start)
    }

    /// A copy of `bytes` with every occurrence masked; none when there is none.
    pub(super) fn masked(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        // Nearly all headers are shorter than any secret.
        if bytes.len() < self.shared.shortest {
            return None;
        }
        let mut masked = None;
        self.search(bytes, |start, end| {
            let copy: &mut Vec<u8> = masked.get_or_insert_with(|| bytes.to_vec());
            copy[start..end].fill(MASK);
        });
        masked
    }

    fn is_beginning(&self, end: &[u8]) -> bool {
        let first = end.first().map(|first| usize::from(*first));
        if !first.is_some_and(|first| self.shared.begins_pattern[first]) {
            return false;
        }
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
