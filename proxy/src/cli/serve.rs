//! `credential-proxy` without a command: listen, serve, end cleanly.

use std::net::SocketAddr;

use drawbridge_io::signals::Signals;
use drawbridge_shared::exit::Exit;
use drawbridge_shared::privacy::not_dumpable;
use tokio::signal::unix::SignalKind;

use super::{ClientAuthArg, Failure, ServeArgs};
use crate::base::bind::{HostFacts, choose_address};
use crate::base::chain;
use crate::config::{
    ClientAuth, ConfigError, Document, DocumentError, Environment, ListenConfig, ProxyConfig,
};
use crate::handle::{DrainOutcome, ProxyHandle};
use crate::server::ListenerGuard;

/// NanoClaw's port.
const DEFAULT_PORT: u16 = 3001;

pub(super) fn run(args: &ServeArgs) -> Result<Exit, Failure> {
    if let Err(error) = not_dumpable() {
        tracing::warn!(%error, "core dumps could not be forbidden");
    }
    let config = resolve(args).map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::infrastructure)?;
    runtime.block_on(serve(args, config))
}

async fn serve(args: &ServeArgs, config: ProxyConfig) -> Result<Exit, Failure> {
    let mut signals = Signals::to_stop().map_err(Failure::infrastructure)?;
    let (listen_config, drain) = (config.listen.clone(), config.drain);
    let proxy = ProxyHandle::start(config).map_err(Failure::not_started)?;
    let reload_args = args.clone();
    proxy.on_reload(Box::new(move || {
        resolve(&reload_args).map_err(|error| {
            let hint = error.hint().map(|hint| format!(" (hint: {hint})"));
            format!("{}{}", chain(&error), hint.unwrap_or_default())
        })
    }));
    let guards = listen(&listen_config, &proxy)?;
    while signals.next().await == SignalKind::hangup() {
        // It is reported where it happens.
        let _ = proxy.reload().await;
    }
    tracing::info!("ending; a second signal ends at once");
    drop(guards);
    let outcome = tokio::select! {
        outcome = proxy.shutdown(drain) => outcome,
        () = stopped(&mut signals) => return Ok(Exit::Interrupted),
    };
    if let DrainOutcome::Cut(connections) = outcome {
        tracing::warn!(connections, "connections were cut at the drain deadline");
    }
    Ok(Exit::Success)
}

/// Waits for a signal that asks the program to stop.
async fn stopped(signals: &mut Signals) {
    while signals.next().await == SignalKind::hangup() {}
}

/// The configuration with the flags on top.
fn resolve(args: &ServeArgs) -> Result<ProxyConfig, ConfigError> {
    let environment = Environment::observe().map_err(|source| DocumentError::Read {
        path: ".".into(),
        source,
    })?;
    let file = match &args.config.config {
        Some(path) => Some(Document::read(path)?),
        None => Document::find(&environment)?,
    };
    let mut config = ProxyConfig::resolve(file.as_ref(), &environment)?;
    let listen = &mut config.listen;
    listen.bind = args.bind.or(listen.bind);
    listen.port = args.port.or(listen.port);
    listen.socket = args.socket.clone().or_else(|| listen.socket.take());
    listen.admin_socket = args
        .admin_socket
        .clone()
        .or_else(|| listen.admin_socket.take());
    listen.health = args.health.or(listen.health);
    listen.allow_wildcard |= args.allow_wildcard;
    config.workers = args.workers.unwrap_or(config.workers);
    config.extra_roots.extend(args.extra_roots.iter().cloned());
    config.client_auth = match args.client_auth {
        Some(ClientAuthArg::Session) => ClientAuth::Session,
        Some(ClientAuthArg::Placeholder) => ClientAuth::Placeholder,
        None => config.client_auth,
    };
    Ok(config)
}

fn listen(config: &ListenConfig, proxy: &ProxyHandle) -> Result<Vec<ListenerGuard>, Failure> {
    let mut guards = Vec::new();
    if let Some(path) = &config.socket {
        guards.push(proxy.listen_unix(path).map_err(Failure::not_started)?);
        tracing::info!("listening on {}", path.display());
    }
    if config.socket.is_none() || config.port.is_some() || config.bind.is_some() {
        let facts = HostFacts::observe();
        let address = choose_address(config.bind, &facts, config.allow_wildcard);
        let address = address.map_err(Failure::not_started)?;
        let address = SocketAddr::new(address, config.port.unwrap_or(DEFAULT_PORT));
        let guard = proxy.listen_tcp(address).map_err(Failure::not_started)?;
        tracing::info!("listening on {}", guard.local_addr().unwrap_or(address));
        guards.push(guard);
    }
    if let Some(path) = &config.admin_socket {
        guards.push(proxy.listen_admin(path).map_err(Failure::not_started)?);
        tracing::info!("admin socket is {}", path.display());
    }
    if let Some(address) = config.health {
        let guard = proxy.listen_health(address).map_err(Failure::not_started)?;
        tracing::info!(
            "health and metrics on {}",
            guard.local_addr().unwrap_or(address)
        );
        guards.push(guard);
    }
    Ok(guards)
}
