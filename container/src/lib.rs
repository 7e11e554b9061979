//! The launcher: it starts agents in containers that hold no keys.
//!
//! `launch` reads top to bottom as the story of one run. The runtimes are pure
//! functions from a `RunSpec` to an argument list; only `process` starts
//! anything.

mod cli;
mod config;
mod demo;
mod doctor;
mod engine;
mod error;
mod events;
mod fake_api;
mod image;
mod mounts;
mod process;
mod requests;
mod run;
mod serve;
mod spec;
mod state;
mod terminal;

use std::ffi::OsString;
use std::io::IsTerminal;

use clap::Parser;
use drawbridge_runner::SelfCommand;
use drawbridge_shared::exit::Exit;
use tracing_subscriber::EnvFilter;

use cli::Cli;
use engine::sandbox;
use process::AGENT_RUNNER;
use terminal::{output, usage};

/// Runs the program with `args`, of which the first is the program's name.
pub fn main_impl(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    // The host runtime needs a runner, and this program carries one.
    if args.get(1).is_some_and(|arg| arg == AGENT_RUNNER) {
        let runner = SelfCommand::this_program([AGENT_RUNNER.into()]);
        return drawbridge_runner::main_impl(&runner, args.into_iter().skip(2));
    }
    if args.get(1).is_some_and(|arg| arg == sandbox::SUBCOMMAND) {
        return sandbox::main(args.into_iter().skip(2));
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error),
    };
    log_to_stderr();
    cli.command.run().unwrap_or_else(|error| {
        output::error(&error);
        error.exit()
    })
}

fn log_to_stderr() {
    let filter =
        EnvFilter::try_from_env("DRAWBRIDGE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    // A second call, in a test, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .compact()
        .try_init();
}
