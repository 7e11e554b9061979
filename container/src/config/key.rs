//! The names of all settings.

use crate::error::{Error, Result};

/// Settings of `[run]`; the flag and the variable have the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Runtime,
    Agent,
    Image,
    Network,
    Model,
    Memory,
    Cpus,
    Pids,
    TmpSize,
    TmpExec,
    Sandbox,
    Timeout,
    IdleTimeout,
    Waive,
    MaskSecrets,
    FileSize,
    User,
}

impl Key {
    pub(crate) const ALL: [Self; 17] = [
        Self::Runtime,
        Self::Agent,
        Self::Image,
        Self::Network,
        Self::Model,
        Self::Memory,
        Self::Cpus,
        Self::Pids,
        Self::TmpSize,
        Self::TmpExec,
        Self::Sandbox,
        Self::Timeout,
        Self::IdleTimeout,
        Self::Waive,
        Self::MaskSecrets,
        Self::FileSize,
        Self::User,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Agent => "agent",
            Self::Image => "image",
            Self::Network => "network",
            Self::Model => "model",
            Self::Memory => "memory",
            Self::Cpus => "cpus",
            Self::Pids => "pids",
            Self::TmpSize => "tmp-size",
            Self::TmpExec => "tmp-exec",
            Self::Sandbox => "sandbox",
            Self::Timeout => "timeout",
            Self::IdleTimeout => "idle-timeout",
            Self::Waive => "waive",
            Self::MaskSecrets => "mask-secrets",
            Self::FileSize => "file-size",
            Self::User => "user",
        }
    }

    /// Refuses a name that is no setting, with the error that `refuse` makes.
    pub(crate) fn require_known<'a>(
        names: impl IntoIterator<Item = &'a String>,
        refuse: impl FnOnce(&str) -> Error,
    ) -> Result<()> {
        let is_known = |name: &str| Self::ALL.iter().any(|key| key.name() == name);
        match names.into_iter().find(|name| !is_known(name)) {
            None => Ok(()),
            Some(name) => {
                let names = Self::ALL.map(Self::name).join(", ");
                Err(refuse(name).hint(format!("accepted keys are {names}")))
            }
        }
    }

    /// The environment variable: `DRAWBRIDGE_` and the name.
    pub(super) fn variable(self) -> String {
        format!(
            "DRAWBRIDGE_{}",
            self.name().to_uppercase().replace('-', "_")
        )
    }
}
