//! The command line, and where logs go.

use std::ffi::OsString;
use std::io::stderr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use drawbridge_shared::exit::Exit;
use rustix::process::Pid;
use tracing_subscriber::EnvFilter;

use crate::probe::ProbeArgs;
use crate::tied::DeathSignal;

/// Drives a coding agent: one JSON document on standard input, records between
/// markers on standard output, follow-up messages from files.
#[derive(Debug, Parser)]
#[command(name = "agent-runner", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs one conversation (the default).
    Run(LifeArgs),
    /// The conversation itself, as a child of `run`.
    #[command(hide = true)]
    Supervise(LifeArgs),
    /// Starts a program that dies with its parent.
    #[command(hide = true)]
    Tied(TiedArgs),
    /// Serves the tools through which an agent reaches the host (MCP, stdio).
    Mcp(McpArgs),
    /// Reports what this container can see and reach, for `drawbridge doctor`.
    #[command(hide = true)]
    Probe(ProbeArgs),
}

/// What a process of the runner may not outlive.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct LifeArgs {
    /// Process id of the parent to stop with; without it the process stops on
    /// signals only.
    #[arg(long, hide = true, value_parser = parse_process_id)]
    pub(crate) parent: Option<Pid>,
}

/// Arguments of `tied`.
#[derive(Debug, Args)]
pub(crate) struct TiedArgs {
    /// Signal that the program gets when its parent dies.
    #[arg(long, value_enum, default_value_t = DeathSignal::Kill)]
    pub(crate) signal: DeathSignal,
    /// Process id the parent must have; another one means it has died already.
    #[arg(long, value_parser = parse_process_id)]
    pub(crate) parent: Pid,
    /// Keep the program and its children from gaining privileges from files.
    #[arg(long)]
    pub(crate) no_new_privileges: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<OsString>,
}

/// Arguments of `mcp`.
#[derive(Clone, Debug, Args)]
pub(crate) struct McpArgs {
    /// The IPC folder.
    #[arg(long, default_value = "/workspace/ipc")]
    pub(crate) ipc: PathBuf,
    /// The group's folder.
    #[arg(long, default_value = "/workspace/group")]
    pub(crate) workspace: PathBuf,
}

fn parse_process_id(text: &str) -> Result<Pid, &'static str> {
    let positive = text.parse().ok().filter(|id: &i32| *id > 0);
    positive.and_then(Pid::from_raw).ok_or("not a process id")
}

/// Shows help, the version or a usage error, and says how to exit.
pub(crate) fn report(error: &clap::Error) -> Exit {
    // There is nobody to tell when the terminal is gone.
    let _ = error.print();
    if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Success
    }
}

/// Sends logs to standard error, each line with NanoClaw's prefix.
pub(crate) fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("DRAWBRIDGE_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,rmcp=warn"));
    // A second call, in a test or in the launcher's process, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(false)
        .event_format(LogLine)
        .try_init();
}

struct LogLine;

impl<S, N> tracing_subscriber::fmt::FormatEvent<S, N> for LogLine
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    N: for<'a> tracing_subscriber::fmt::FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &tracing_subscriber::fmt::FmtContext<'_, S, N>,
        mut writer: tracing_subscriber::fmt::format::Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let mut text = String::new();
        let fields = tracing_subscriber::fmt::format::Writer::new(&mut text);
        context.field_format().format_fields(fields, event)?;
        // What an agent said may be of several lines, or pretend to be ours.
        for line in text.lines() {
            writeln!(
                writer,
                "[agent-runner] {}: {line}",
                event.metadata().level()
            )?;
        }
        Ok(())
    }
}
