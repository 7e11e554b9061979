//! Exit codes of all programs.

use std::process::ExitCode;

/// A program's exit code.
///
/// 0 and 1 are what NanoClaw's host expects of a runner. The launcher's own
/// codes start at 2, so that a script can tell a refused command line from an
/// agent that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// The work was done.
    Success,
    /// The agent, or the request to it, failed; an error record says why.
    AgentFailed,
    /// The command line or the configuration is wrong.
    Usage,
    /// Something that a run needs is missing or refused: credential, engine,
    /// image, isolation. Nothing was started.
    NotStarted,
    /// The container engine, the host or the proxy failed during the run.
    Infrastructure,
    /// A time limit ended the run.
    TimedOut,
    /// A signal asked the program to stop, and it stopped cleanly.
    Interrupted,
    /// The exit code of a child process that did the work in this one's place.
    Child(u8),
}

impl Exit {
    /// The numeric exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::AgentFailed => 1,
            Self::Usage => 2,
            Self::NotStarted => 3,
            Self::Infrastructure => 4,
            Self::TimedOut => 5,
            Self::Interrupted => 130,
            Self::Child(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
