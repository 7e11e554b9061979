//! The context that a request is served in.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use http::Method;

use crate::http1::Violation;
use crate::observe::Telemetry;
use crate::policy::{ClientAuth, Deadlines, Limits};
use crate::routes::{Route, RouteTable};
use crate::session::{Origin, Sessions};
use crate::upstream::connect::Connector;
use crate::upstream::{OutgoingProxy, Pool};

/// The settings that the requests of all workers share.
#[derive(Clone)]
pub(crate) struct RequestSetup {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) sessions: Sessions,
    pub(crate) telemetry: Telemetry,
    pub(crate) outgoing: Option<OutgoingProxy>,
    pub(crate) client_auth: ClientAuth,
    pub(crate) deadlines: Deadlines,
    pub(crate) limits: Limits,
}

/// Everything that the requests of one worker share.
pub(crate) struct RequestContext {
    setup: RequestSetup,
    routing: RefCell<Rc<Routing>>,
}

/// The routes, each with its connections.
pub(super) struct Routing {
    table: Arc<RouteTable>,
    pools: Vec<Rc<Pool>>,
}

impl RequestContext {
    pub(crate) fn new(setup: RequestSetup, table: Arc<RouteTable>) -> Self {
        let routing = Routing::new(table, &setup);
        Self {
            setup,
            routing: RefCell::new(Rc::new(routing)),
        }
    }

    /// Uses new routes from the next request on. Idle connections of the old
    /// ones close with the last request that uses them.
    pub(crate) fn reload(&self, table: Arc<RouteTable>) {
        let routing = Routing::new(table, &self.setup);
        *self.routing.borrow_mut() = Rc::new(routing);
    }

    /// Closes connections to upstreams that have been idle for too long.
    pub(crate) fn prune(&self) {
        self.routing().pools.iter().for_each(|pool| pool.prune());
    }

    pub(super) fn routing(&self) -> Rc<Routing> {
        Rc::clone(&self.routing.borrow())
    }

    pub(super) const fn sessions(&self) -> &Sessions {
        &self.setup.sessions
    }

    pub(super) const fn telemetry(&self) -> &Telemetry {
        &self.setup.telemetry
    }

    pub(super) const fn client_auth(&self) -> ClientAuth {
        self.setup.client_auth
    }

    pub(crate) const fn deadlines(&self) -> &Deadlines {
        &self.setup.deadlines
    }
}

impl Routing {
    fn new(table: Arc<RouteTable>, setup: &RequestSetup) -> Self {
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

    pub(super) fn table(&self) -> &RouteTable {
        &self.table
    }

    /// The connections of a route of this table.
    pub(super) fn pool(&self, route: &Route) -> &Rc<Pool> {
        &self.pools[route.index()]
    }
}

/// The client at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(super) origin: Origin,
    /// Decisions about its requests for upgrades.
    pub(crate) upgrade: UpgradeSwitch,
    /// Why its last head was refused, if it was.
    pub(crate) refusal: HeadRefusal,
}

impl Client {
    pub(crate) fn new(origin: Origin) -> Self {
        Self {
            origin,
            upgrade: UpgradeSwitch::default(),
            refusal: HeadRefusal::default(),
        }
    }
}

/// Why a connection's last head was refused, passed from the task that reads it
/// to the one that answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadRefusal(Arc<OnceLock<Violation>>);

impl HeadRefusal {
    /// Why a request was refused, if it is the one that stands for that.
    pub(super) fn of(&self, method: &Method) -> Option<Violation> {
        let is_stand_in = method.as_str() == REFUSED_METHOD;
        is_stand_in.then(|| self.0.get().copied()).flatten()
    }

    /// Whether the client has sent something that was refused.
    pub(super) fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    pub(crate) fn set(&self, violation: Violation) {
        // The first one ends the connection.
        let _ = self.0.set(violation);
    }
}

/// Method of the request that stands for a head that was refused.
pub(crate) const REFUSED_METHOD: &str = "-";

/// The decision about a request for an upgrade, passed from the task that answers
/// it to the one that reads what follows.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpgradeSwitch(Arc<AtomicU8>);

const UNDECIDED: u8 = 0;
const GRANTED: u8 = 1;
const DENIED: u8 = 2;

impl UpgradeSwitch {
    pub(super) fn grant(&self) {
        self.0.store(GRANTED, Ordering::Release);
    }

    pub(super) fn deny(&self) {
        self.0.store(DENIED, Ordering::Release);
    }

    /// The decision, once; `None` while there is none.
    pub(crate) fn take(&self) -> Option<bool> {
        match self.0.swap(UNDECIDED, Ordering::AcqRel) {
            GRANTED => Some(true),
            DENIED => Some(false),
            _ => None,
        }
    }
}
