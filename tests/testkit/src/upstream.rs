//! A stand-in for an upstream API with full control over every byte.
//!
//! It speaks just enough HTTP/1.1 to read requests. What it writes is up to the
//! script, so that it can stall, cut a chunk in half or reset the connection.

use std::fmt;
use std::io::{self, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::exchange::{Exchange, Stream};
use crate::request::{Request, read_request};
use crate::tls;
use crate::wait::PATIENCE;

/// What the stand-in does with a request. An error ends the connection, as does
/// [`Exchange::close`].
pub type Script = dyn Fn(&Request, &mut Exchange<'_>) -> io::Result<()> + Send + Sync;

/// A stand-in upstream on a loopback port; it ends when dropped.
pub struct Upstream {
    address: SocketAddr,
    authority: Option<String>,
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<Script>,
    tls: Option<Arc<ServerConfig>>,
    requests: Mutex<Vec<Request>>,
    arrived: Condvar,
    connections: Mutex<Vec<TcpStream>>,
    is_stopping: AtomicBool,
}

impl Upstream {
    /// Starts a stand-in in clear text.
    ///
    /// # Panics
    /// No port can be opened.
    #[must_use]
    pub fn start(
        script: impl Fn(&Request, &mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start_on("127.0.0.1:0", Box::new(script), None)
    }

    /// Starts a stand-in behind TLS with a certificate of its own authority.
    ///
    /// # Panics
    /// No port can be opened.
    #[must_use]
    pub fn start_tls(
        script: impl Fn(&Request, &mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start_on(
            "127.0.0.1:0",
            Box::new(script),
            Some(tls::authority_and_server()),
        )
    }

    fn start_on(
        address: &str,
        script: Box<Script>,
        tls: Option<(Arc<ServerConfig>, String)>,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, authority) = tls.unzip();
        let shared = Arc::new(Shared {
            script,
            tls,
            requests: Mutex::default(),
            arrived: Condvar::new(),
            connections: Mutex::default(),
            is_stopping: AtomicBool::new(false),
        });
        let acceptor = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &acceptor));
        Self {
            address,
            authority,
            shared,
        }
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        match self.authority {
            Some(_) => format!("https://localhost:{}", self.address.port()),
            None => format!("http://{}", self.address),
        }
    }

    /// Certificate of its authority in PEM form, if it speaks TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// All requests so far.
    ///
    /// # Panics
    /// A script panicked while it held the list.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until a request satisfies a predicate, and returns it.
    ///
    /// # Panics
    /// None does in time.
    pub fn wait_for(&self, what: &str, matches: impl Fn(&Request) -> bool) -> Request {
        let requests = self.shared.requests.lock().unwrap();
        let missing = |all: &mut Vec<Request>| !all.iter().any(&matches);
        let wait = self
            .shared
            .arrived
            .wait_timeout_while(requests, PATIENCE, missing);
        let (requests, wait) = wait.unwrap();
        assert!(!wait.timed_out(), "waited {PATIENCE:?} for {what}");
        requests
            .iter()
            .find(|request| matches(request))
            .unwrap()
            .clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        // The acceptor sees the flag with its next connection.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming() {
        if shared.is_stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(connection) = connection else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A client that leaves is part of many tests.
            let _ = serve(connection, &shared);
        });
    }
}

fn serve(connection: TcpStream, shared: &Shared) -> io::Result<()> {
    connection.set_nodelay(true)?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let socket = connection.try_clone()?;
    shared
        .connections
        .lock()
        .unwrap()
        .push(connection.try_clone()?);
    let stream = match &shared.tls {
        None => Stream::Plain(connection),
        Some(config) => {
            let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
            Stream::Tls(Box::new(StreamOwned::new(session, connection)))
        }
    };
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream)? {
        shared.requests.lock().unwrap().push(request.clone());
        shared.arrived.notify_all();
        let mut exchange = Exchange::new(&mut stream, &socket);
        (shared.script)(&request, &mut exchange)?;
        if exchange.is_over() {
            break;
        }
    }
    let _ = socket.shutdown(Shutdown::Both);
    Ok(())
}
