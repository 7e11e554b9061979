//! The launcher: it starts agents in containers that hold no keys.
//!
//! `launch` reads top to bottom as the story of one run. The runtimes are pure
//! functions from a `RunSpec` to an argument list; only `process` starts
//! anything.

mod backlog;
mod cli;
mod commands;
mod config;
mod conversation;
mod credentials;
mod dead_letter;
mod demo;
mod doctor;
mod error;
mod events;
mod follow_ups;
mod image;
mod interrupt;
mod ipc;
mod launch;
mod lines;
mod mounts;
mod orphans;
mod output;
mod paint;
mod process;
mod progress;
mod queue;
mod retry;
mod runtime;
mod sandbox;
mod serve;
mod spec;
mod standin;
mod state;
mod store;
mod submission;

use std::ffi::OsString;
use std::future::Future;
use std::io::IsTerminal;

use clap::Parser;
use drawbridge_runner::SelfCommand;
use drawbridge_shared::exit::Exit;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};
use error::{Context, Error, Result};

/// The hidden subcommand behind which the runner's command line is.
const AGENT_RUNNER: &str = "agent-runner";

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
        Err(error) => return cli::report(&error),
    };
    log_to_stderr();
    let done = match cli.command {
        Command::Run(args) => commands::run(&args),
        Command::Demo(args) => demo::command(&args),
        Command::BuildImage(args) => image::command(&args),
        Command::Doctor(args) => doctor::command(&args),
        Command::Serve(args) => serve::command(*args),
        Command::Submit(args) => serve::submit(&args),
        Command::Send(args) => serve::send(&args),
        Command::List(args) => serve::list(&args),
        Command::Events(args) => serve::events(&args),
        Command::Close(args) => serve::close(&args),
        Command::Interrupt(args) => serve::interrupt(&args),
        Command::DeadLetter { command } => dead_letter::command(&command),
        Command::Clean => commands::clean(),
        Command::Config { command } => config::command(&command),
    };
    done.unwrap_or_else(|error| {
        output::error(&error);
        error.exit()
    })
}

/// Runs async work to its end on this thread.
///
/// One thread is on purpose: a child process that is tied to its parent is tied
/// to the thread that started it, and this one lives as long as the program.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| Error::infrastructure("cannot start the event loop"))?;
    let done = runtime.block_on(work);
    // A read of the terminal may still be waiting; it must not hold us up.
    runtime.shutdown_background();
    done
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
