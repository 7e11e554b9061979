//! Percent-encoding of values in queries and forms.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// All bytes but RFC 3986's unreserved characters.
const RESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The encoded value, in pieces: the caller chooses a buffer that is cleared.
pub(crate) fn encode(value: &[u8]) -> impl Iterator<Item = &str> {
    percent_encode(value, &RESERVED)
}
