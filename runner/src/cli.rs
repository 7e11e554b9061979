//! The command line, and where logs go.

use std::io::stderr;

use clap::{Parser, Subcommand};
use drawbridge_shared::exit::Exit;
use tracing_subscriber::EnvFilter;

use crate::mcp::McpArgs;
use crate::probe::ProbeArgs;
use crate::process::die_with_parent::{DieWithParentArgs, ParentArgs};

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
    Run(ParentArgs),
    /// The conversation itself, as a child of `run`.
    #[command(hide = true)]
    Supervise(ParentArgs),
    /// Starts a program that dies with its parent.
    #[command(name = "tied", hide = true)]
    DieWithParent(DieWithParentArgs),
    /// Serves the tools through which an agent reaches the host (MCP, stdio).
    Mcp(McpArgs),
    /// Reports what this container can see and reach, for `drawbridge doctor`.
    #[command(hide = true)]
    Probe(ProbeArgs),
}

/// Shows help, the version or a usage error, and returns the exit code.
pub(crate) fn report(error: &clap::Error) -> Exit {
    // There is nobody to report to when the terminal is gone.
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
        // Text of an agent may be of several lines, or pretend to be ours.
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
