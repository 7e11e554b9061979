//! The egress of a sealed container: a port on loopback whose connections are
//! copied to the credential proxy's unix socket.
//!
//! Agents know base URLs, not unix sockets. The relay does not look at the
//! bytes. It ends when it is dropped, with all its connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

/// Most connections at one time; more wait to be accepted. An agent with
/// several subagents keeps about ten.
const MAX_CONNECTIONS: usize = 128;
/// Bytes kept per connection and direction.
const BUFFER_BYTES: usize = 16 * 1024;
/// Longest time for a busy proxy to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Pause before the next attempt when the system is out of something.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A running relay.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Relay {
    /// Listens on a free loopback port and copies each connection to `socket`.
    ///
    /// # Errors
    /// There is no loopback interface or no free port.
    pub(crate) async fn start(socket: PathBuf) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, socket.into()));
        Ok(Self {
            address,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    /// The base URL to give to the agent.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn accept(listener: TcpListener, socket: Arc<Path>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    while let Ok(permit) = Arc::clone(&slots).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) => {
                connections.spawn(serve(client, Arc::clone(&socket), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "relay cannot accept a connection");
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Copies one connection; a failure on either side is shown to the client as a
/// reset, so that it cannot take a cut answer for a whole one.
async fn serve(mut client: TcpStream, socket: Arc<Path>, _permit: OwnedSemaphorePermit) {
    if let Err(error) = copy(&mut client, &socket).await {
        tracing::debug!(%error, "relayed connection ended early");
        if let Err(error) = client.set_zero_linger() {
            tracing::debug!(%error, "relayed connection cannot be reset");
        }
    }
}

async fn copy(client: &mut TcpStream, socket: &Path) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut proxy = connect(socket).await?;
    copy_bidirectional_with_sizes(client, &mut proxy, BUFFER_BYTES, BUFFER_BYTES).await?;
    Ok(())
}

/// Connects to the proxy. A unix socket whose queue is full refuses with
/// `EAGAIN` instead of waiting.
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let deadline = Instant::now() + CONNECT_DEADLINE;
    loop {
        match UnixStream::connect(socket).await {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline =>
            {
                sleep(RETRY_PAUSE).await;
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests;
