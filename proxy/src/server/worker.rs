//! One worker thread: its event loop, routes and upstream connections.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::connection;
use super::listener::Socket;
use super::quota::{Counted, Quota};
use crate::config::{ClientAuth, Deadlines, Limits};
use crate::session::{ListenerId, Origin, Sessions};
use crate::table::{Route, RouteTable};
use crate::telemetry::Telemetry;
use crate::upstream::connect::Connector;
use crate::upstream::{OutgoingProxy, Pool};

/// How often idle upstream connections are looked through.
const PRUNE_INTERVAL: Duration = Duration::from_secs(5);

/// What the proxy asks of a worker.
pub(crate) enum Command {
    Listen(Socket, ListenerId, watch::Receiver<()>),
    Reload(Arc<RouteTable>),
    Drain(Duration, oneshot::Sender<usize>),
}

/// What all workers start with.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) sessions: Sessions,
    pub(crate) telemetry: Telemetry,
    pub(crate) outgoing: Option<OutgoingProxy>,
    pub(crate) client_auth: ClientAuth,
    pub(crate) deadlines: Deadlines,
    pub(crate) limits: Limits,
    pub(crate) quota: Quota,
}

/// What the requests of one worker share.
pub(crate) struct Worker {
    setup: Setup,
    routing: RefCell<Rc<Routing>>,
    connections: Cell<usize>,
    connection_ended: Notify,
}

/// The routes, each with its connections.
pub(crate) struct Routing {
    table: Arc<RouteTable>,
    pools: Vec<Rc<Pool>>,
}

/// Starts a worker thread.
pub(crate) fn start(
    index: usize,
    setup: Setup,
    table: Arc<RouteTable>,
) -> io::Result<mpsc::UnboundedSender<Command>> {
    let (commands, inbox) = mpsc::unbounded_channel();
    let (report, started) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name(format!("proxy-{index}"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => {
                    let _ = report.send(Ok(()));
                    runtime
                }
                Err(error) => {
                    let _ = report.send(Err(error));
                    return;
                }
            };
            let worker = Rc::new(Worker::new(setup, table));
            let ended = runtime.block_on(run(worker, inbox));
            // A name lookup may still block a helper thread; nobody waits for it.
            runtime.shutdown_background();
            if let Some((cut, ended)) = ended {
                let _ = ended.send(cut);
            }
        })?;
    started.recv().map_err(io::Error::other)??;
    Ok(commands)
}

/// Follows commands until it is told to end or the proxy is dropped. Returns
/// how many connections were cut, and whom to tell.
async fn run(
    worker: Rc<Worker>,
    mut inbox: mpsc::UnboundedReceiver<Command>,
) -> Option<(usize, oneshot::Sender<usize>)> {
    let (open, draining) = watch::channel(());
    tokio::task::spawn_local(prune(Rc::clone(&worker)));
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Listen(socket, id, closed) => {
                let accepting =
                    connection::accept(Rc::clone(&worker), socket, id, closed, draining.clone());
                tokio::task::spawn_local(accepting);
            }
            Command::Reload(table) => worker.reload(table),
            Command::Drain(limit, ended) => {
                drop(open);
                let drained = tokio::time::timeout(limit, worker.all_connections_ended());
                let _ = drained.await;
                return Some((worker.connections.get(), ended));
            }
        }
    }
    None
}

async fn prune(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(PRUNE_INTERVAL);
    loop {
        ticks.tick().await;
        let routing = worker.routing();
        routing.pools.iter().for_each(|pool| pool.prune());
    }
}

impl Worker {
    fn new(setup: Setup, table: Arc<RouteTable>) -> Self {
        let routing = Routing::new(table, &setup);
        Self {
            setup,
            routing: RefCell::new(Rc::new(routing)),
            connections: Cell::new(0),
            connection_ended: Notify::new(),
        }
    }

    /// Uses new routes from the next request on. Idle connections of the old
    /// ones close with the last request that uses them.
    fn reload(&self, table: Arc<RouteTable>) {
        let routing = Routing::new(table, &self.setup);
        *self.routing.borrow_mut() = Rc::new(routing);
    }

    pub(crate) fn routing(&self) -> Rc<Routing> {
        Rc::clone(&self.routing.borrow())
    }

    pub(crate) const fn sessions(&self) -> &Sessions {
        &self.setup.sessions
    }

    pub(crate) const fn telemetry(&self) -> &Telemetry {
        &self.setup.telemetry
    }

    pub(crate) const fn client_auth(&self) -> ClientAuth {
        self.setup.client_auth
    }

    pub(crate) const fn deadlines(&self) -> &Deadlines {
        &self.setup.deadlines
    }

    /// Counts a client connection until the returned guard is dropped; `None`
    /// when there are too many.
    pub(crate) fn count_connection(self: &Rc<Self>, origin: Origin) -> Option<ConnectionCount> {
        let counted = self.setup.quota.count(origin)?;
        self.connections.set(self.connections.get() + 1);
        Some(ConnectionCount {
            worker: Rc::clone(self),
            _counted: counted,
        })
    }

    async fn all_connections_ended(&self) {
        while self.connections.get() > 0 {
            self.connection_ended.notified().await;
        }
    }
}

impl Routing {
    fn new(table: Arc<RouteTable>, setup: &Setup) -> Self {
        let connector =
            Connector::new(&setup.tls, setup.deadlines.connect).through(setup.outgoing.clone());
        let connector = Rc::new(connector);
        let pools = table
            .routes()
            .iter()
            .map(|route| {
                Rc::new(Pool::new(
                    Arc::clone(route.upstream()),
                    Rc::clone(&connector),
                    setup.limits.idle_upstream_connections,
                    setup.deadlines.idle_upstream,
                ))
            })
            .collect();
        Self { table, pools }
    }

    pub(crate) fn table(&self) -> &RouteTable {
        &self.table
    }

    /// The connections of a route of this table.
    pub(crate) fn pool(&self, route: &Route) -> &Rc<Pool> {
        &self.pools[route.index()]
    }
}

/// A client connection that is counted.
pub(crate) struct ConnectionCount {
    worker: Rc<Worker>,
    _counted: Counted,
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        let worker = &self.worker;
        worker.connections.set(worker.connections.get() - 1);
        worker.connection_ended.notify_one();
    }
}
