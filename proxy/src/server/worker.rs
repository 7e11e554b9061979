//! One worker thread: its event loop, routes and upstream connections.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::connection;
use super::listener::Socket;
use super::quota::{Counted, Quota};
use crate::request::{RequestContext, RequestSetup};
use crate::routes::RouteTable;
use crate::session::{ListenerId, Origin};

/// Pause between two searches for upstream connections that are idle for too long.
const PRUNE_INTERVAL: Duration = Duration::from_secs(5);

/// A command to a worker.
pub(crate) enum Command {
    Listen(Socket, ListenerId, watch::Receiver<()>),
    Reload(Arc<RouteTable>),
    Drain(Duration, oneshot::Sender<usize>),
}

/// The settings that all workers start with.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) requests: RequestSetup,
    pub(crate) quota: Quota,
}

/// One worker thread's side of its connections.
pub(super) struct Worker {
    requests: Rc<RequestContext>,
    quota: Quota,
    connections: Cell<usize>,
    connection_ended: Notify,
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

/// Follows commands until it is to end or the proxy is dropped. Returns
/// how many connections were cut, and the channel that waits for that.
async fn run(
    worker: Rc<Worker>,
    mut inbox: mpsc::UnboundedReceiver<Command>,
) -> Option<(usize, oneshot::Sender<usize>)> {
    let (open, draining) = watch::channel(());
    tokio::task::spawn_local(prune(Rc::clone(&worker.requests)));
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Listen(socket, id, closed) => {
                let accepting =
                    connection::accept(Rc::clone(&worker), socket, id, closed, draining.clone());
                tokio::task::spawn_local(accepting);
            }
            Command::Reload(table) => worker.requests.reload(table),
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

async fn prune(requests: Rc<RequestContext>) {
    let mut ticks = tokio::time::interval(PRUNE_INTERVAL);
    loop {
        ticks.tick().await;
        requests.prune();
    }
}

impl Worker {
    fn new(setup: Setup, table: Arc<RouteTable>) -> Self {
        Self {
            requests: Rc::new(RequestContext::new(setup.requests, table)),
            quota: setup.quota,
            connections: Cell::new(0),
            connection_ended: Notify::new(),
        }
    }

    /// The context of its requests.
    pub(super) const fn requests(&self) -> &Rc<RequestContext> {
        &self.requests
    }

    /// Counts a client connection until the returned guard is dropped; `None`
    /// when there are too many.
    pub(super) fn count_connection(self: &Rc<Self>, origin: Origin) -> Option<ConnectionCount> {
        let counted = self.quota.count(origin)?;
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

/// A client connection that is counted.
pub(super) struct ConnectionCount {
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
