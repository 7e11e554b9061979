//! The program inside the container: it drives one agent through one
//! conversation.
//!
//! `agent-runner` is two processes. The init process is PID 1: it reaps,
//! forwards signals and makes sure that nothing outlives the run. The
//! supervisor reads the run's document on standard input, starts the agent,
//! feeds it the host's messages and writes one record per answer.

mod agent;
mod cli;
mod conversation;
mod host;
mod mcp;
pub mod probe;
mod process;
mod self_command;
mod supervisor;

use std::ffi::OsString;

use clap::Parser;
use drawbridge_shared::exit::Exit;

pub use agent::Abilities;
pub use host::watch::FolderWatch;
pub use mcp::ScheduleType;
pub use self_command::SelfCommand;

use cli::{Cli, Command};
use process::die_with_parent::{self, ParentArgs};
use process::reaper;

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
        .unwrap_or_else(|| Command::Run(ParentArgs::default()))
    {
        Command::Run(args) => reaper::main(self_command, &args),
        Command::Supervise(args) => supervisor::main(self_command, &args),
        Command::Mcp(args) => mcp::main(args),
        Command::DieWithParent(args) => die_with_parent::main(&args),
        Command::Probe(args) => probe::main(&args),
    }
}
