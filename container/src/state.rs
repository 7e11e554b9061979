//! The launcher's state folder.
//!
//! ```text
//! install-id                     names this installation in container labels
//! groups/NAME/{workspace,home,ipc,session.json,lock}
//! runs/RUN_ID/{lock,run.json,socket/}
//! ```
//!
//! A run holds the lock of its folder for as long as its launcher lives; a
//! folder whose lock can be taken belongs to a dead one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

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

/// The state folder.
#[derive(Clone, Debug)]
pub(crate) struct State {
    root: PathBuf,
}

impl State {
    /// The folder itself.
    #[must_use]
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}
