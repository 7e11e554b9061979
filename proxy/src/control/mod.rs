//! The thread next to the workers: it keeps credentials up to date, takes new
//! configurations, and serves the admin surface.

mod admin;
pub(crate) mod client;
mod session;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rustls::ClientConfig;
use tokio::runtime::{Handle, LocalOptions};
use tokio::sync::{mpsc, watch};

pub(crate) use self::admin::Scope;
use crate::base::chain;
use crate::config::ProxyConfig;
use crate::credential::Credentials;
use crate::observe::Telemetry;
use crate::observe::audit::Event;
use crate::routes::RouteTable;
use crate::server::{self, Socket};
use crate::session::Sessions;
use crate::upstream::connect::Connector;

/// Reads the configuration anew.
pub type Reloader = Box<dyn Fn() -> Result<ProxyConfig, String> + Send + Sync>;

/// State that the admin surface and the handle share.
pub(crate) struct Shared {
    pub(crate) sessions: Sessions,
    pub(crate) telemetry: Telemetry,
    pub(crate) started: Instant,
    /// Opened on the control thread, which keeps them up to date.
    credentials: OnceLock<Credentials>,
    workers: OnceLock<Vec<mpsc::UnboundedSender<server::Command>>>,
    reloader: Mutex<Option<Reloader>>,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

/// The thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Control {
    commands: mpsc::UnboundedSender<Listen>,
}

/// A socket to serve the admin surface on, until it closes.
struct Listen(Socket, Scope, watch::Receiver<()>);

impl Shared {
    pub(crate) fn new(sessions: Sessions, telemetry: Telemetry) -> Self {
        Self {
            sessions,
            telemetry,
            started: Instant::now(),
            credentials: OnceLock::new(),
            workers: OnceLock::new(),
            reloader: Mutex::new(None),
            reloading: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn attach(&self, workers: Vec<mpsc::UnboundedSender<server::Command>>) {
        let _ = self.workers.set(workers);
    }

    pub(crate) fn set_reloader(&self, reloader: Reloader) {
        let mut current = self.reloader.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(reloader);
    }

    /// Reads the configuration anew and hands it to the workers. Requests in
    /// flight end with what they began with.
    ///
    /// # Errors
    /// The new configuration, or a credential of it, is not usable. The old one
    /// stays in use.
    pub(crate) async fn reload(&self) -> Result<usize, String> {
        let _one_at_a_time = self.reloading.lock().await;
        let config = {
            let reloader = self.reloader.lock().unwrap_or_else(PoisonError::into_inner);
            let reloader = reloader
                .as_ref()
                .ok_or("this proxy has no configuration to reload")?;
            reloader()
        };
        let credentials = self.credentials.get().ok_or("the proxy is starting")?;
        let reread = credentials.reload().await;
        let opened = match (config, reread) {
            (Ok(config), Ok(())) => {
                RouteTable::open(config, credentials, self.telemetry.metrics()).await
            }
            (Ok(_), Err(problem)) => return Err(self.report(Err(chain(&problem)))),
            (Err(problem), _) => return Err(self.report(Err(problem))),
        };
        if let Some(problem) = opened.missing_credentials() {
            return Err(self.report(Err(problem)));
        }
        credentials.keep_only(&opened.sources());
        let (count, table) = (opened.routes().len(), Arc::new(opened));
        for worker in self.workers.get().into_iter().flatten() {
            let _ = worker.send(server::Command::Reload(Arc::clone(&table)));
        }
        self.report(Ok(count));
        Ok(count)
    }

    /// Waits, bounded, until no credential is being renewed.
    pub(crate) async fn end_credentials(&self) {
        if let Some(credentials) = self.credentials.get() {
            credentials.end().await;
        }
    }

    fn report(&self, reloaded: Result<usize, String>) -> String {
        let detail = match &reloaded {
            Ok(count) => format!("{count} routes are in use"),
            Err(problem) => format!("the old configuration stays in use: {problem}"),
        };
        if reloaded.is_ok() {
            tracing::info!("reloaded: {detail}");
        } else {
            tracing::error!("not reloaded: {detail}");
        }
        if let Some(audit) = self.telemetry.audit() {
            let detail = detail.clone();
            audit.note(Event::Reloaded { detail });
        }
        detail
    }
}

impl Control {
    pub(crate) fn listen(&self, socket: Socket, scope: Scope, closed: watch::Receiver<()>) {
        // The thread ends with the proxy only.
        let _ = self.commands.send(Listen(socket, scope, closed));
    }
}

/// Starts the thread and opens all credentials on it.
pub(crate) fn start(
    config: ProxyConfig,
    tls: Arc<ClientConfig>,
    shared: Arc<Shared>,
) -> io::Result<(Control, RouteTable)> {
    let (commands, inbox) = mpsc::unbounded_channel();
    let (report, started) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("proxy-control".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(report.send(Err(error))),
            };
            runtime.block_on(async move {
                let connector =
                    Connector::new(&tls, config.deadlines.connect).through(config.outgoing.clone());
                let credentials = Credentials::new(config.environment.clone(), Handle::current())
                    .reaching(connector);
                let credentials = shared.credentials.get_or_init(|| credentials);
                let table = RouteTable::open(config, credentials, shared.telemetry.metrics()).await;
                if let Some(problem) = table.missing_credentials() {
                    tracing::warn!("requests are refused with 503: {problem}");
                }
                let _ = report.send(Ok(table));
                run(Arc::clone(&shared), inbox).await;
                shared.end_credentials().await;
            });
            runtime.shutdown_background();
        })?;
    let table = started.recv().map_err(io::Error::other)??;
    Ok((Control { commands }, table))
}

async fn run(shared: Arc<Shared>, mut inbox: mpsc::UnboundedReceiver<Listen>) {
    while let Some(Listen(socket, scope, closed)) = inbox.recv().await {
        let serving = admin::serve(Arc::clone(&shared), socket, scope, closed);
        tokio::task::spawn_local(async move {
            if let Err(error) = serving.await {
                tracing::error!("the admin surface ended: {}", chain(&error));
            }
        });
    }
}
