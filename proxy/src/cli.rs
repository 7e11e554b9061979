//! The command line of `credential-proxy`.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use drawbridge_shared::exit::Exit;
use tokio::signal::unix::{SignalKind, signal};

use crate::bind::{HostFacts, choose_address};
use crate::config::{ClientAuth, Environment, ProxyConfig};
use crate::{DrainOutcome, ListenerGuard, ProxyHandle};

/// How long requests in flight may go on after the first signal.
const DRAIN: Duration = Duration::from_secs(30);

/// Host-side proxy that authenticates agents and injects the real credentials.
#[derive(Debug, Parser)]
#[command(name = "credential-proxy", version)]
struct Cli {
    /// Address to listen on, instead of the one that containers of this host reach
    #[arg(long, value_name = "ADDR", env = "CREDENTIAL_PROXY_HOST")]
    bind: Option<IpAddr>,
    /// TCP port to listen on [default: 3001, or none with --socket alone]
    #[arg(long, value_name = "N", env = "CREDENTIAL_PROXY_PORT")]
    port: Option<u16>,
    /// Unix socket to listen on
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Accept an address that means every interface
    #[arg(long)]
    allow_wildcard: bool,
    /// How clients prove that they may use the proxy
    #[arg(long, value_enum, default_value = "session")]
    client_auth: ClientAuthArg,
    /// File of PEM root certificates to trust beside the platform's
    #[arg(long, value_name = "FILE")]
    extra_roots: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ClientAuthArg {
    /// By the token of a session
    Session,
    /// By NanoClaw's fixed placeholder
    Placeholder,
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
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    match serve(&cli) {
        Ok(exit) => exit,
        Err(error) => {
            tracing::error!("{error:#}");
            Exit::NotStarted
        }
    }
}

fn serve(cli: &Cli) -> anyhow::Result<Exit> {
    let environment = Environment::observe()?;
    let mut config = ProxyConfig::resolve(None, &environment)?;
    config.extra_roots.clone_from(&cli.extra_roots);
    config.client_auth = match cli.client_auth {
        ClientAuthArg::Session => ClientAuth::Session,
        ClientAuthArg::Placeholder => ClientAuth::Placeholder,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        let proxy = ProxyHandle::start(config)?;
        let guards = listen(cli, &proxy)?;
        stop.wait().await;
        tracing::info!("stopping; a second signal ends at once");
        drop(guards);
        let outcome = tokio::select! {
            outcome = proxy.shutdown(DRAIN) => outcome,
            () = stop.wait() => return Ok(Exit::Interrupted),
        };
        if let DrainOutcome::Cut(connections) = outcome {
            tracing::warn!(connections, "connections were cut at the drain deadline");
        }
        Ok(Exit::Success)
    })
}

fn listen(cli: &Cli, proxy: &ProxyHandle) -> anyhow::Result<Vec<ListenerGuard>> {
    let mut guards = Vec::new();
    if let Some(path) = &cli.socket {
        guards.push(proxy.listen_unix(path)?);
        tracing::info!(socket = %path.display(), "listening");
    }
    if cli.socket.is_none() || cli.port.is_some() {
        let address = choose_address(cli.bind, &HostFacts::observe(), cli.allow_wildcard)?;
        let guard = proxy.listen_tcp(SocketAddr::new(address, cli.port.unwrap_or(3001)))?;
        if let Some(address) = guard.local_addr() {
            tracing::info!(%address, "listening");
        }
        guards.push(guard);
    }
    Ok(guards)
}

/// The signals that end the program.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
