//! Sockets that clients connect to.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::sync::watch;
use tokio_util::either::Either;

use crate::policy::ClientAuth;
use crate::session::ListenerId;

/// Longest path of a unix socket: `sun_path` without its NUL, on Linux 107
/// bytes, on macOS 103.
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket's path does not fit into a socket address.
    #[error("socket path {} has more than {MAX_SOCKET_PATH} bytes", .0.display())]
    PathTooLong(PathBuf),
    /// Another program listens there.
    #[error("{address} is in use")]
    InUse {
        /// The address or path.
        address: String,
    },
    /// Health and metrics are for this host only.
    #[error("health and metrics are served on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The operating system refused.
    #[error("cannot listen on {address}")]
    Io {
        /// The address or path.
        address: String,
        /// Its reason.
        source: io::Error,
    },
}

impl ListenError {
    /// The fix, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::PathTooLong(_) => Some("choose a shorter folder".into()),
            Self::InUse { .. } => {
                Some("stop the program that listens there, or choose another".into())
            }
            Self::NotLoopback(_) => Some("use 127.0.0.1:PORT".into()),
            Self::Io { .. } => None,
        }
    }
}

/// The processes that may connect to a unix socket, as its mode.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SocketKind {
    /// Everybody who reaches the file: each request carries a token.
    Open,
    /// The proxy's own user.
    Private,
}

impl SocketKind {
    pub(crate) const fn for_clients(auth: ClientAuth) -> Self {
        match auth {
            ClientAuth::Session => Self::Open,
            ClientAuth::Placeholder => Self::Private,
        }
    }

    const fn mode(self) -> u32 {
        match self {
            Self::Open => 0o666,
            Self::Private => 0o600,
        }
    }
}

/// A bound socket; clones accept from the same queue.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Socket {
    pub(crate) fn bind_tcp(address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |source| failure(address.to_string(), source);
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self::Tcp(listener))
    }

    pub(crate) fn bind_unix(path: &Path, kind: SocketKind) -> Result<Self, ListenError> {
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(ListenError::PathTooLong(path.to_owned()));
        }
        let failed = |source| failure(path.display().to_string(), source);
        remove_if_dead(path).map_err(failed)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(kind.mode());
        std::fs::set_permissions(path, mode).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self::Unix(listener, path.to_owned()))
    }

    /// Another handle on the same socket, for another thread.
    pub(crate) fn share(&self) -> Result<Self, ListenError> {
        let failed = |source| failure(self.address(), source);
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp).map_err(failed),
            Self::Unix(listener, path) => listener
                .try_clone()
                .map(|listener| Self::Unix(listener, path.clone()))
                .map_err(failed),
        }
    }

    /// The guard that keeps the socket open, and the socket to accept from.
    pub(crate) fn guard(self, id: ListenerId, open: watch::Sender<()>) -> (ListenerGuard, Self) {
        let (address, path) = match &self {
            Self::Tcp(listener) => (listener.local_addr().ok(), None),
            Self::Unix(_, path) => (None, Some(path.clone())),
        };
        let guard = ListenerGuard {
            id,
            address,
            path,
            _open: open,
        };
        (guard, self)
    }

    fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| "tcp".to_owned(), |address| address.to_string()),
            Self::Unix(_, path) => path.display().to_string(),
        }
    }
}

/// Removes a socket file that a killed proxy left behind. One that still
/// accepts, and a file of another kind, stay and make the bind fail.
fn remove_if_dead(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Ok(()),
    }
}

fn failure(address: String, source: io::Error) -> ListenError {
    if source.kind() == io::ErrorKind::AddrInUse {
        ListenError::InUse { address }
    } else {
        ListenError::Io { address, source }
    }
}

/// A stream from a client.
pub(crate) type Stream = Either<tokio::net::TcpStream, tokio::net::UnixStream>;

/// The address of a client; `None` on a unix socket.
pub(super) fn peer(stream: &Stream) -> Option<IpAddr> {
    match stream {
        Either::Left(stream) => stream.peer_addr().ok().map(|address| address.ip()),
        Either::Right(_) => None,
    }
}

/// A socket that a worker accepts from.
pub(crate) enum Acceptor {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Acceptor {
    pub(crate) fn new(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Tcp(listener) => tokio::net::TcpListener::from_std(listener).map(Self::Tcp),
            Socket::Unix(listener, _) => {
                tokio::net::UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Without it each chunk of an answer can wait for an acknowledgement.
                stream.set_nodelay(true)?;
                Ok(Either::Left(stream))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Either::Right(stream))
            }
        }
    }
}

/// A listener that accepts as long as this guard is held. Dropped, it lets the
/// requests in flight end, and a unix socket's file is removed.
#[derive(Debug)]
pub struct ListenerGuard {
    id: ListenerId,
    address: Option<SocketAddr>,
    path: Option<PathBuf>,
    /// Workers see this go.
    _open: watch::Sender<()>,
}

impl ListenerGuard {
    /// The listener's id, to bind sessions to it.
    #[must_use]
    pub const fn id(&self) -> ListenerId {
        self.id
    }

    /// The TCP address it listens on; `None` for a unix socket.
    #[must_use]
    pub const fn local_addr(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for ListenerGuard {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}
