//! The running proxy: worker threads, the listeners they share, and the shutdown.
//!
//! Each worker is a thread with an event loop, routes and idle upstream
//! connections of its own, so a request never changes threads and takes no lock
//! but the session table's. All workers accept from every listener.

mod hint;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use drawbridge_shared::protocol::AuthMode;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::hint::hint_of;
use crate::config::ProxyConfig;
pub use crate::control::Reloader;
use crate::control::{self, Control, Scope, Shared};
use crate::observe::Telemetry;
use crate::observe::audit::{AuditLog, OpenError};
use crate::observe::metrics::Metrics;
use crate::request::RequestSetup;
use crate::server::{self, Command, ListenError, ListenerGuard, Quota, Setup, Socket, SocketKind};
use crate::session::{ListenerId, Sessions};
use crate::upstream::tls::{self, TlsError};

/// Longest time to write the last audit records.
const AUDIT_CLOSE: Duration = Duration::from_secs(5);

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// TLS towards upstreams cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The audit file cannot be used.
    #[error(transparent)]
    Audit(#[from] OpenError),
    /// A worker thread or its event loop could not be made.
    #[error("a worker thread could not be started")]
    Thread(#[source] std::io::Error),
}

impl StartError {
    /// The fix, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Tls(error) => error.hint(),
            Self::Audit(error) => error.hint(),
            Self::Thread(_) => None,
        }
    }
}

/// The end of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// All connections ended on their own.
    Drained,
    /// So many connections were still open at the deadline, and were cut.
    Cut(usize),
}

/// A running proxy. Dropping it closes everything at once; [`Self::shutdown`]
/// lets what is in flight come to its end.
#[derive(Debug)]
pub struct ProxyHandle {
    workers: Vec<mpsc::UnboundedSender<Command>>,
    shared: Arc<Shared>,
    control: Control,
    auth_mode: AuthMode,
    next_listener: AtomicU32,
    socket_kind: SocketKind,
}

impl ProxyHandle {
    /// Starts the worker threads. Nothing listens yet.
    ///
    /// A route whose credential cannot be loaded does not fail the start: its
    /// requests are refused with 503.
    ///
    /// # Errors
    /// TLS or a thread cannot be set up.
    pub fn start(config: ProxyConfig) -> Result<Self, StartError> {
        let sessions = Sessions::default();
        let audit = config.audit.clone();
        let audit = audit.map(|audit| AuditLog::open(audit.path, audit.fsync));
        let telemetry = Telemetry::new(Arc::new(Metrics::default()), audit.transpose()?);
        let shared = Arc::new(Shared::new(sessions.clone(), telemetry.clone()));
        let requests = RequestSetup {
            telemetry,
            outgoing: config.outgoing.clone(),
            tls: tls::client_config(&config.extra_roots)?,
            sessions,
            client_auth: config.client_auth,
            deadlines: config.deadlines,
            limits: config.limits,
        };
        let tls = Arc::clone(&requests.tls);
        let setup = Setup {
            requests,
            quota: Quota::new(config.limits),
        };
        let auth_mode = config.auth_mode();
        let workers = config.workers.get();
        let socket_kind = SocketKind::for_clients(config.client_auth);
        let (control, table) =
            control::start(config, tls, Arc::clone(&shared)).map_err(StartError::Thread)?;
        let table = Arc::new(table);
        let workers = (0..workers)
            .map(|index| server::start(index, setup.clone(), Arc::clone(&table)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(StartError::Thread)?;
        shared.attach(workers.clone());
        Ok(Self {
            workers,
            shared,
            control,
            auth_mode,
            next_listener: AtomicU32::new(1),
            socket_kind,
        })
    }

    /// Listens on a unix socket.
    ///
    /// With sessions the socket's mode is 0666, because a container's user need
    /// not be the caller's: the token and the folder's mode decide who gets in.
    /// In placeholder mode it is 0600.
    ///
    /// A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// The path is too long, in use, or cannot be made.
    pub fn listen_unix(&self, path: &Path) -> Result<ListenerGuard, ListenError> {
        self.listen(Socket::bind_unix(path, self.socket_kind)?)
    }

    /// Listens on a TCP address; port 0 takes a free one.
    ///
    /// # Errors
    /// The address is not this host's, or the port is in use.
    pub fn listen_tcp(&self, address: SocketAddr) -> Result<ListenerGuard, ListenError> {
        self.listen(Socket::bind_tcp(address)?)
    }

    /// Serves the admin surface on a unix socket of mode 0600.
    ///
    /// # Errors
    /// As [`Self::listen_unix`].
    pub fn listen_admin(&self, path: &Path) -> Result<ListenerGuard, ListenError> {
        let socket = Socket::bind_unix(path, SocketKind::Private)?;
        Ok(self.listen_control(socket, Scope::Full))
    }

    /// Serves health and metrics on a loopback address.
    ///
    /// # Errors
    /// The address is not on loopback, or the port is in use.
    pub fn listen_health(&self, address: SocketAddr) -> Result<ListenerGuard, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback(address));
        }
        let socket = Socket::bind_tcp(address)?;
        Ok(self.listen_control(socket, Scope::Health))
    }

    fn listen_control(&self, socket: Socket, scope: Scope) -> ListenerGuard {
        let (open, closed) = watch::channel(());
        let (guard, socket) = socket.guard(self.new_listener(), open);
        self.control.listen(socket, scope, closed);
        guard
    }

    fn new_listener(&self) -> ListenerId {
        ListenerId(self.next_listener.fetch_add(1, Ordering::Relaxed))
    }

    fn listen(&self, socket: Socket) -> Result<ListenerGuard, ListenError> {
        let (id, (open, closed)) = (self.new_listener(), watch::channel(()));
        for worker in &self.workers {
            let socket = socket.share()?;
            // A worker that is gone has ended with the proxy.
            let _ = worker.send(Command::Listen(socket, id, closed.clone()));
        }
        Ok(socket.guard(id, open).0)
    }

    /// The sessions of this proxy.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    /// Sets where [`Self::reload`] and the admin surface read the configuration
    /// from.
    pub fn on_reload(&self, reloader: Reloader) {
        self.shared.set_reloader(reloader);
    }

    /// Reads the configuration anew. Requests in flight end with what they
    /// began with. Returns the number of routes.
    ///
    /// # Errors
    /// The new configuration, or a credential of it, is not usable. The old one
    /// stays in use.
    pub async fn reload(&self) -> Result<usize, String> {
        self.shared.reload().await
    }

    /// Which kind of key an agent is to be given the placeholder for.
    #[must_use]
    pub const fn auth_mode(&self) -> AuthMode {
        self.auth_mode
    }

    /// Stops accepting, lets requests in flight end, and ends all threads. What
    /// has not ended after `drain` is cut.
    pub async fn shutdown(self, drain: Duration) -> DrainOutcome {
        let mut ends = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let (ended, end) = oneshot::channel();
            let _ = worker.send(Command::Drain(drain, ended));
            ends.push(end);
        }
        let mut cut = 0;
        for end in ends {
            cut += end.await.unwrap_or(0);
        }
        self.shared.end_credentials().await;
        if let Some(audit) = self.shared.telemetry.audit()
            && let Err(error) = audit.close(AUDIT_CLOSE).await
        {
            tracing::error!("{error}");
        }
        match cut {
            0 => DrainOutcome::Drained,
            cut => DrainOutcome::Cut(cut),
        }
    }
}
