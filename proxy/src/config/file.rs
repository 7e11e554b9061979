//! `drawbridge.toml`.

use std::path::PathBuf;

use crate::route::{InvalidRouteName, InvalidRule};
use crate::upstream::InvalidUpstream;

/// What `drawbridge.toml` says, before the environment is looked at.
#[derive(Clone, Debug, Default)]
pub struct ConfigFile {
    /// The file it was read from.
    pub path: PathBuf,
    /// The launcher's table, which the proxy does not read.
    pub run: Option<toml::Table>,
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting of the environment cannot be read.
    #[error(transparent)]
    Environment(#[from] crate::credential::Unavailable),
    /// A route's name is not one.
    #[error(transparent)]
    RouteName(InvalidRouteName),
    /// A rule is not one.
    #[error(transparent)]
    Rule(InvalidRule),
    /// An upstream's URL is not acceptable.
    #[error("{key} is not acceptable")]
    Upstream {
        /// Where the URL was found.
        key: String,
        /// What is wrong with it.
        source: InvalidUpstream,
    },
}
