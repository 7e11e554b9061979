//! Keeps injected secrets out of what the upstream answers.
//!
//! An upstream that echoes a request (an error page, a debug endpoint, a
//! webhook tester) would hand the agent the very credential the proxy hides
//! from it. So every answer of a route with a credential passes through here:
//! its head through [`scrub_head`], its body through [`ScrubbedBody`].
//!
//! # What is removed
//! Each secret in the forms an echo takes: raw, base64 (standard and URL-safe,
//! at all three alignments, so also as part of a longer encoded text such as
//! `user:secret`), percent-encoded, JSON-escaped and hexadecimal. Every byte
//! that any occurrence covers, overlapping ones included, becomes `*`. A mask
//! has the length of what it hides, so `content-length` stays right and JSON
//! stays JSON.
//!
//! # What is not
//! A secret that is cut in pieces, reversed, encoded twice or in some other
//! way, wrapped over lines, or inside compressed or encrypted data. An upstream
//! that works against its own user needs no echo to do harm.
//!
//! # Compressed answers
//! The proxy asks for `identity` ([`request_identity`]) and refuses an answer
//! that is compressed anyway ([`require_identity`]). Decoding and encoding
//! again would cost some hundred times more per byte than scrubbing does
//! (`docs/performance.md` has both figures), would have to be bounded against
//! decompression bombs, and would save bandwidth only between the proxy and the
//! upstream, where an event stream is a few kilobytes per second.

mod body;
mod forms;
mod head;
mod pattern;

pub(crate) use body::ScrubbedBody;
pub(crate) use forms::forms;
pub(crate) use head::{request_identity, require_identity, scrub_head, scrub_headers};
pub use pattern::{Patterns, PatternsError};

use bytes::Bytes;

/// The byte in the place of each masked byte.
pub const MASK: u8 = b'*';

/// Masks the secrets in one stream of bytes that comes in pieces of any size.
///
/// The joined output depends on the joined input alone, never on how it was
/// split, unless [`Scrubber::release`] is used. A piece is passed on at once,
/// without copying where nothing is found; only its last bytes stay behind, and
/// only those that are the beginning of a pattern. At most one byte less than
/// the longest pattern is held.
#[derive(Debug)]
pub struct Scrubber {
    patterns: Patterns,
    held: Held,
}

/// The most bytes of a beginning that [`Scrubber::release`] shows, which is less
/// than the public prefixes of vendors' keys (`sk-ant-`, `sk-proj-`, `ghp_`).
const MOST_RELEASED: usize = 4;

/// The end of the stream so far: the beginning of a pattern, as it came in and
/// as it will go out. They differ where an occurrence that is already complete
/// overlaps one that may be beginning.
#[derive(Debug, Default)]
struct Held {
    seen: Vec<u8>,
    shown: Vec<u8>,
    /// So many of the first ones have gone out already.
    released: usize,
}

impl Scrubber {
    /// A scrubber for one stream.
    #[must_use]
    pub const fn new(patterns: Patterns) -> Self {
        let held = Held {
            seen: Vec::new(),
            shown: Vec::new(),
            released: 0,
        };
        Self { patterns, held }
    }

    /// Takes the next bytes and returns those that can go out now.
    #[must_use]
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        if self.held.seen.is_empty() {
            let mut is_clean = true;
            let kept = self.patterns.search(&chunk, |_, _| is_clean = false);
            if is_clean {
                return self.pass(chunk, kept);
            }
        }
        self.mask(&chunk)
    }

    /// The common case: nothing was held and nothing is found.
    fn pass(&mut self, mut chunk: Bytes, kept: usize) -> Bytes {
        let tail = chunk.split_off(chunk.len() - kept);
        self.held.seen.extend_from_slice(&tail);
        self.held.shown.extend_from_slice(&tail);
        chunk
    }

    fn mask(&mut self, chunk: &[u8]) -> Bytes {
        let Held {
            seen,
            shown,
            released,
        } = &mut self.held;
        seen.extend_from_slice(chunk);
        shown.extend_from_slice(chunk);
        let kept = self
            .patterns
            .search(seen, |start, end| shown[start..end].fill(MASK));
        let out = seen.len() - kept;
        let kept = Held {
            seen: seen.split_off(out),
            shown: shown.split_off(out),
            released: released.saturating_sub(out),
        };
        std::mem::replace(&mut self.held, kept).into_shown()
    }

    /// Returns what is still held: the stream has ended, so nothing can
    /// complete it any more.
    #[must_use]
    pub fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into_shown()
    }

    /// Whether [`Self::release`] would show something.
    #[must_use]
    pub fn can_release(&self) -> bool {
        let (held, released) = (self.held.seen.len(), self.held.released);
        held > released && held <= self.patterns.harmless().min(MOST_RELEASED)
    }

    /// Returns held bytes although the stream goes on, for a reader who waits
    /// for them and will not make it go on before: the end of a message that by
    /// chance is how a secret begins. Only a short beginning goes out, of four
    /// bytes and no more than a quarter of the shortest pattern.
    ///
    /// What was released is still remembered as the beginning that it may be.
    /// If a secret follows, all of it but those few bytes is masked, however
    /// often and whenever this is called; see `SECURITY.md`.
    #[must_use]
    pub fn release(&mut self) -> Bytes {
        if !self.can_release() {
            return Bytes::new();
        }
        let shown = Bytes::copy_from_slice(&self.held.shown[self.held.released..]);
        self.held.released = self.held.seen.len();
        shown
    }

    /// The number of bytes that came in and have not gone out.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held.seen.len() - self.held.released
    }
}

impl Held {
    /// The part of it that has not gone out.
    fn into_shown(mut self) -> Bytes {
        if self.released == 0 {
            return Bytes::from(self.shown);
        }
        let released = self.released.min(self.shown.len());
        Bytes::from(self.shown.split_off(released))
    }
}

#[cfg(test)]
mod tests;
