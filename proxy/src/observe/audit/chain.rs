//! The form of a record, and the hash that ties it to the one before.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use drawbridge_shared::ids::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Event;

/// The text between a record and its hash.
const HASH_KEY: &str = ",\"hash\":\"";
const HASH_END: &str = "\"}";
const HASH_DIGITS: usize = 64;
/// Length of the part of a line that its hash does not cover.
const TAIL_BYTES: usize = HASH_KEY.len() + HASH_DIGITS + HASH_END.len();

/// A SHA-256 hash, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// The predecessor of the first record of all.
    pub const NOTHING: Self = Self([0; 32]);

    fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// A text that is not an anchor or a hash.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an anchor: write NUMBER:HASH with 64 hexadecimal digits, as the proxy does")]
pub struct InvalidAnchor(String);

impl TryFrom<String> for Hash {
    type Error = InvalidAnchor;

    fn try_from(text: String) -> Result<Self, InvalidAnchor> {
        text.parse()
    }
}

impl FromStr for Hash {
    type Err = InvalidAnchor;

    fn from_str(text: &str) -> Result<Self, InvalidAnchor> {
        let invalid = || InvalidAnchor(text.chars().take(100).collect());
        let digits = text.as_bytes();
        if digits.len() != HASH_DIGITS {
            return Err(invalid());
        }
        let mut hash = [0; HASH_DIGITS / 2];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let value = |digit: u8| match digit {
                b'0'..=b'9' => Ok(digit - b'0'),
                b'a'..=b'f' => Ok(digit - b'a' + 10),
                _ => Err(invalid()),
            };
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Ok(Self(hash))
    }
}

/// A place in the chain: a record's number, counted from 1, and its hash.
///
/// Written `NUMBER:HASH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The record's number; 0 is before the first.
    pub seq: u64,
    /// The record's hash.
    pub hash: Hash,
}

impl Anchor {
    /// Before the first record of all.
    pub const START: Self = Self {
        seq: 0,
        hash: Hash::NOTHING,
    };
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Anchor {
    type Err = InvalidAnchor;

    fn from_str(text: &str) -> Result<Self, InvalidAnchor> {
        let invalid = || InvalidAnchor(text.chars().take(100).collect());
        let (seq, hash) = text.trim().split_once(':').ok_or_else(invalid)?;
        let seq = seq.parse().map_err(|_| invalid())?;
        Ok(Self {
            seq,
            hash: hash.parse()?,
        })
    }
}

/// The fields of a record before its hash, in their order.
#[derive(Serialize)]
struct Fields<'a> {
    seq: u64,
    /// Milliseconds since 1970, UTC.
    time: u64,
    prev: Hash,
    event: &'a Event,
}

/// Appends the record that follows `last` to `line` and returns its place.
pub(super) fn append(
    line: &mut Vec<u8>,
    last: Anchor,
    time: SystemTime,
    event: &Event,
) -> Result<Anchor, serde_json::Error> {
    let seq = last.seq + 1;
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    let prev = last.hash;
    let mut text = serde_json::to_string(&Fields {
        seq,
        time,
        prev,
        event,
    })?;
    text.pop();
    let hash = Hash::of(text.as_bytes());
    line.extend_from_slice(text.as_bytes());
    line.extend_from_slice(format!("{HASH_KEY}{hash}{HASH_END}\n").as_bytes());
    Ok(Anchor { seq, hash })
}

/// The place in the chain that a line names.
pub(super) struct Link {
    pub(super) prev: Hash,
    pub(super) place: Anchor,
    /// Whether the line's own hash is right.
    pub(super) is_genuine: bool,
}

/// Reads a line without its end; none when it is not a record.
pub(super) fn read(line: &[u8]) -> Option<Link> {
    #[derive(Deserialize)]
    struct Fields {
        seq: u64,
        prev: Hash,
        hash: Hash,
    }
    let fields: Fields = serde_json::from_slice(line).ok()?;
    let (covered, tail) = line.split_at_checked(line.len().checked_sub(TAIL_BYTES)?)?;
    let tail = std::str::from_utf8(tail).ok()?;
    let hash: Hash = tail
        .strip_prefix(HASH_KEY)?
        .strip_suffix(HASH_END)?
        .parse()
        .ok()?;
    Some(Link {
        prev: fields.prev,
        place: Anchor {
            seq: fields.seq,
            hash,
        },
        is_genuine: hash == fields.hash && hash == Hash::of(covered),
    })
}
