//! The command that starts this very program again.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process;

/// The command that starts this very program again as a child process.
///
/// The launcher carries the runner inside its own binary, so the program alone
/// does not say how to reach the runner's command line.
#[derive(Clone, Debug)]
pub struct SelfCommand {
    /// The program to execute.
    pub program: PathBuf,
    /// Arguments that lead to the runner's own command line.
    pub arguments: Vec<OsString>,
}

impl SelfCommand {
    /// The running program, whose runner is reached through `arguments`.
    #[must_use]
    pub fn this_program(arguments: impl IntoIterator<Item = OsString>) -> Self {
        Self {
            program: own_program(cfg!(target_os = "linux"), std::env::current_exe().ok()),
            arguments: arguments.into_iter().collect(),
        }
    }

    /// The command that starts one of the runner's own subcommands.
    pub(crate) fn command(&self, subcommand: &str) -> process::Command {
        let mut command = process::Command::new(&self.program);
        command.args(&self.arguments).arg(subcommand);
        command
    }
}

/// The path that leads to the running program.
///
/// Linux has one that stays right when the file is replaced by an upgrade.
/// Elsewhere it is the path by which the program was started.
fn own_program(has_proc: bool, started_as: Option<PathBuf>) -> PathBuf {
    const OF_PROC: &str = "/proc/self/exe";
    match started_as {
        Some(path) if !has_proc => path,
        _ => PathBuf::from(OF_PROC),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn only_linux_is_asked_for_its_proc_folder() {
        let path = || Some(PathBuf::from("/usr/local/bin/drawbridge"));
        assert_eq!(own_program(true, path()), Path::new("/proc/self/exe"));
        assert_eq!(own_program(false, path()), path().unwrap());
    }
}
