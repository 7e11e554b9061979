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
    OnRequest,
}

impl Key {
    pub(crate) const ALL: [Self; 18] = [
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
        Self::OnRequest,
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
            Self::OnRequest => "on-request",
        }
    }

    /// Whether callers of `serve` may choose it for their submissions. Who
    /// answers agents is up to who starts `serve`.
    pub(crate) fn is_for_submissions(self) -> bool {
        self != Self::OnRequest
    }

    /// Whether it can differ from agent to agent.
    pub(crate) fn is_for_agents(self) -> bool {
        self != Self::Agent
    }

    /// Refuses a name that is none of those settings that `is_meant` picks, with
    /// the error that `refuse` makes.
    pub(crate) fn require_known<'a>(
        names: impl IntoIterator<Item = &'a String>,
        is_meant: fn(Self) -> bool,
        refuse: impl FnOnce(&str) -> Error,
    ) -> Result<()> {
        let known = Self::ALL.into_iter().filter(|key| is_meant(*key));
        require_known(names, known.map(Self::name), refuse)
    }

    /// The environment variable: `DRAWBRIDGE_` and the name.
    pub(crate) fn variable(self) -> String {
        format!(
            "DRAWBRIDGE_{}",
            self.name().to_uppercase().replace('-', "_")
        )
    }
}

/// Settings of `[serve]`; the flag has the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServeKey {
    MaxRuns,
    MaxWaitingPerGroup,
    MaxWaiting,
    MaxAttempts,
    RetryDelay,
    RetryAgentFailures,
    Drain,
    Keep,
    OnRequest,
}

impl ServeKey {
    pub(crate) const ALL: [Self; 9] = [
        Self::MaxRuns,
        Self::MaxWaitingPerGroup,
        Self::MaxWaiting,
        Self::MaxAttempts,
        Self::RetryDelay,
        Self::RetryAgentFailures,
        Self::Drain,
        Self::Keep,
        Self::OnRequest,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MaxRuns => "max-runs",
            Self::MaxWaitingPerGroup => "max-waiting-per-group",
            Self::MaxWaiting => "max-waiting",
            Self::MaxAttempts => "max-attempts",
            Self::RetryDelay => "retry-delay",
            Self::RetryAgentFailures => "retry-agent-failures",
            Self::Drain => "drain",
            Self::Keep => "keep",
            Self::OnRequest => "on-request",
        }
    }

    /// The same for `[serve]`.
    pub(super) fn require_known<'a>(
        names: impl IntoIterator<Item = &'a String>,
        refuse: impl FnOnce(&str) -> Error,
    ) -> Result<()> {
        require_known(names, Self::ALL.into_iter().map(Self::name), refuse)
    }
}

fn require_known<'a>(
    names: impl IntoIterator<Item = &'a String>,
    known: impl Iterator<Item = &'static str>,
    refuse: impl FnOnce(&str) -> Error,
) -> Result<()> {
    let known: Vec<_> = known.collect();
    match names.into_iter().find(|name| !known.contains(&&***name)) {
        None => Ok(()),
        Some(name) => {
            let known = known.join(", ");
            Err(refuse(name).hint(format!("accepted keys are {known}")))
        }
    }
}
