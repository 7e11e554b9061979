//! The command line of `credential-proxy`.

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use drawbridge_shared::exit::Exit;

use crate::control::client::IssueRequest;
use crate::observe::telemetry::{self, LogFormat};

mod audit;
mod check;
mod output;
mod serve;
mod session;

/// Host-side proxy that authenticates agents and injects the real credentials.
///
/// Without a command it serves until it gets SIGTERM or SIGINT; SIGHUP reloads
/// the configuration.
#[derive(Debug, Parser)]
#[command(
    name = "credential-proxy",
    version,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check configuration and credentials without printing any of them
    Check(ConfigArgs),
    /// Print which kind of key the agents are to be given: api-key or oauth
    AuthMode(ConfigArgs),
    /// Issue, list and revoke sessions of a running proxy
    #[command(subcommand)]
    Session(SessionCommand),
    /// Have a running proxy read its configuration anew
    Reload(AdminArgs),
    /// Work with audit files
    #[command(subcommand)]
    Audit(AuditCommand),
}

#[derive(Clone, Debug, Args)]
struct ConfigArgs {
    /// Configuration file [default: drawbridge.toml here or in the user's configuration folder]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Address to listen on, instead of the one that containers of this host reach
    #[arg(long, value_name = "ADDR")]
    bind: Option<std::net::IpAddr>,
    /// TCP port to listen on [default: 3001, or none when only --socket is given]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Unix socket to listen on
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Accept an address that means every interface
    #[arg(long)]
    allow_wildcard: bool,
    /// How clients prove that they may use the proxy [default: session]
    #[arg(long, value_enum, value_name = "HOW")]
    client_auth: Option<ClientAuthArg>,
    /// Unix socket for sessions, reloading, health and metrics
    #[arg(long, value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    /// Loopback address for health and metrics
    #[arg(long, value_name = "ADDR:PORT")]
    health: Option<std::net::SocketAddr>,
    /// PEM file of root certificates to trust beside the platform's
    #[arg(long, value_name = "FILE")]
    extra_roots: Vec<PathBuf>,
    /// Worker threads
    #[arg(long, value_name = "N")]
    workers: Option<std::num::NonZeroUsize>,
    /// Form of the log on standard error
    #[arg(long, value_enum, value_name = "FORM", default_value = "text")]
    log_format: LogFormatArg,
    /// What is logged, such as "warn" or "info,drawbridge::request=off"
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ClientAuthArg {
    /// By the token of a session
    Session,
    /// By NanoClaw's fixed placeholder
    Placeholder,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormatArg {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Args)]
struct AdminArgs {
    /// Admin socket of the running proxy
    #[arg(long, value_name = "PATH")]
    admin_socket: PathBuf,
}

#[derive(Debug, Subcommand)]
enum SessionCommand {
    /// Issue a session and print it with its token, as JSON
    Issue {
        #[command(flatten)]
        admin: AdminArgs,
        #[command(flatten)]
        request: Box<IssueRequest>,
    },
    /// Print all sessions and what they used, as JSON
    List(AdminArgs),
    /// Revoke a session
    Revoke {
        #[command(flatten)]
        admin: AdminArgs,
        /// Id of the session
        id: String,
    },
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Verify that audit files are as they were written
    Verify {
        /// The files, oldest first
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Record that must be there, as NUMBER:HASH
        #[arg(long, value_name = "ANCHOR")]
        anchor: Option<String>,
    },
}

/// Runs the program with its arguments, program name first.
pub fn main_impl(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
        }
    };
    let format = match cli.serve.log_format {
        LogFormatArg::Text => LogFormat::Text,
        LogFormatArg::Json => LogFormat::Json,
    };
    // A process that has a log already keeps it.
    let _ = telemetry::init(format, &cli.serve.log);
    let done = match &cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Check(args)) => check::check(args),
        Some(Command::AuthMode(args)) => check::auth_mode(args),
        Some(Command::Session(command)) => session::run(command),
        Some(Command::Reload(args)) => session::reload(args),
        Some(Command::Audit(AuditCommand::Verify { files, anchor })) => {
            audit::verify(files, anchor.as_deref())
        }
    };
    done.unwrap_or_else(|failure| {
        output::failure(&*failure.error);
        failure.exit
    })
}

/// A command that failed, and its exit code.
struct Failure {
    exit: Exit,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let (exit, error) = (Exit::Usage, error.into());
        Self { exit, error }
    }

    fn not_started(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let (exit, error) = (Exit::NotStarted, error.into());
        Self { exit, error }
    }

    fn infrastructure(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let (exit, error) = (Exit::Infrastructure, error.into());
        Self { exit, error }
    }
}
