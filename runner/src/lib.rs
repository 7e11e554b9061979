//! The program inside the container: it drives one agent through one
//! conversation.
//!
//! `agent-runner` is two processes. The outer one is PID 1: it reaps, forwards
//! signals and makes sure that nothing outlives the run. The inner one, the
//! supervisor, reads the run's document on standard input, starts the agent,
//! feeds it the host's messages and writes one record per answer.

mod agent;
mod archive;
mod child;
mod cli;
mod conversation;
mod heartbeat;
mod inbox;
mod input;
mod mcp;
mod mounts;
mod output;
pub mod probe;
mod reaper;
mod relay;
mod script_gate;
mod setup;
mod shell;
mod supervisor;
mod tied;
mod watch;
mod watchdog;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process;

use clap::Parser;
use drawbridge_shared::exit::Exit;

pub use agent::Abilities;
use cli::{Cli, Command, LifeArgs};
pub use mcp::ScheduleType;
pub use tied::{DeathSignal, tied_command};
pub use watch::FolderWatch;

/// How to start this very program again as a child process.
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
    fn command(&self, subcommand: &str) -> process::Command {
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

/// Runs the program with `args`, which do not include the program's name.
pub fn main_impl(self_command: &SelfCommand, args: impl IntoIterator<Item = OsString>) -> Exit {
    let name = std::iter::once(OsString::from("agent-runner"));
    let cli = match Cli::try_parse_from(name.chain(args)) {
        Ok(cli) => cli,
        Err(error) => return cli::report(&error),
    };
    cli::log_to_stderr();
    match cli
        .command
        .unwrap_or_else(|| Command::Run(LifeArgs::default()))
    {
        Command::Run(life) => reaper::main(self_command, &life),
        Command::Supervise(life) => supervisor::main(self_command, &life),
        Command::Mcp(args) => mcp::main(args),
        Command::Tied(args) => tied::main(&args),
        Command::Probe(args) => probe::main(&args),
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
