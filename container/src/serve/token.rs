//! The token that callers of the socket show.

use std::fs;
use std::io;
use std::path::Path;

use drawbridge_shared::ids::Nonce;
use drawbridge_shared::ipc::write_atomic;
use subtle::ConstantTimeEq;

/// Name of its file, which only its owner can read.
const FILE: &str = "token";

/// A random word that is made anew for each `serve`.
pub(crate) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token([REDACTED])")
    }
}

impl Token {
    /// Makes a new one and writes it into `serve`'s folder.
    pub(crate) fn make(folder: &Path) -> io::Result<Self> {
        let word = Nonce::random().map_err(io::Error::other)?;
        write_atomic(&folder.join(FILE), word.as_str().as_bytes())?;
        Ok(Self(word.into()))
    }

    /// Reads the one of the `serve` that runs.
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        fs::read_to_string(folder.join(FILE)).map(Self)
    }

    /// The header that shows it.
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Compares in a time that does not tell how much of it was right.
    pub(crate) fn is_presented_in(&self, header: &[u8]) -> bool {
        self.header().as_bytes().ct_eq(header).into()
    }
}
