//! The names of all settings.

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
}

impl Key {
    pub(super) const ALL: [Self; 14] = [
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
    ];

    pub(super) const fn name(self) -> &'static str {
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
