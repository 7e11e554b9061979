//! Opening one connection: resolve once, vet every answer, connect, encrypt.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Scheme, Upstream, literal_address};

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("resolving {host} failed")]
    Resolve { host: String, source: io::Error },
    #[error("{host} resolves to {address}, which is out of the route's reach")]
    OutOfReach { host: String, address: SocketAddr },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error("connecting to {address} failed")]
    Connect {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("TLS with {host} failed")]
    Tls { host: String, source: io::Error },
    #[error("no connection to {host} within {} ms", limit.as_millis())]
    Timeout { host: String, limit: Duration },
    #[error("the HTTP connection could not be set up")]
    Handshake(#[source] hyper::Error),
}

/// What all connections of a worker are opened with.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: Arc<rustls::ClientConfig>,
    tls_http1: Arc<rustls::ClientConfig>,
    limit: Duration,
}

/// The protocol that a new connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// A stream to an upstream.
pub(crate) enum UpstreamIo {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connector {
    /// `limit` is the longest time for name, connection and TLS together.
    pub(crate) fn new(tls: &Arc<rustls::ClientConfig>, limit: Duration) -> Self {
        let with_protocols = |protocols: &[&[u8]]| {
            let mut config = rustls::ClientConfig::clone(tls);
            config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
            Arc::new(config)
        };
        Self {
            tls: with_protocols(&[b"h2", b"http/1.1"]),
            tls_http1: with_protocols(&[b"http/1.1"]),
            limit,
        }
    }

    /// Opens a connection to an upstream, with the protocol that it prefers.
    pub(crate) async fn connect(
        &self,
        upstream: &Upstream,
    ) -> Result<(UpstreamIo, Protocol), ConnectError> {
        let io = self.in_time(upstream, &self.tls).await?;
        let protocol = match &io {
            UpstreamIo::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Protocol::Http2
            }
            _ => Protocol::Http1,
        };
        Ok((io, protocol))
    }

    /// Opens a connection that speaks HTTP/1.1.
    pub(crate) async fn connect_http1(
        &self,
        upstream: &Upstream,
    ) -> Result<UpstreamIo, ConnectError> {
        self.in_time(upstream, &self.tls_http1).await
    }

    async fn in_time(
        &self,
        upstream: &Upstream,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<UpstreamIo, ConnectError> {
        let opening = self.open(upstream, tls);
        tokio::time::timeout(self.limit, opening)
            .await
            .unwrap_or_else(|_| {
                Err(ConnectError::Timeout {
                    host: upstream.authority(),
                    limit: self.limit,
                })
            })
    }

    async fn open(
        &self,
        upstream: &Upstream,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<UpstreamIo, ConnectError> {
        let addresses = resolve(upstream).await?;
        let stream = self.connect_to_any(&addresses).await?;
        match upstream.scheme {
            Scheme::Http => Ok(UpstreamIo::Clear(stream)),
            Scheme::Https => encrypt(upstream, stream, tls).await,
        }
    }

    /// Tries the addresses in order; each but the last gets an equal share of
    /// the time, so that one dead address does not use it up.
    async fn connect_to_any(&self, addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
        let tries = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let share = self.limit / tries;
        let mut last = None;
        for &address in addresses {
            let connecting = tokio::time::timeout(share, TcpStream::connect(address));
            let failed = |source| ConnectError::Connect { address, source };
            match connecting.await {
                Ok(Ok(stream)) => {
                    // Without it small requests wait for an acknowledgement.
                    stream.set_nodelay(true).map_err(failed)?;
                    return Ok(stream);
                }
                Ok(Err(source)) => last = Some(failed(source)),
                Err(_) => last = Some(failed(io::ErrorKind::TimedOut.into())),
            }
        }
        Err(last.unwrap_or_else(|| ConnectError::NoAddress {
            host: String::new(),
        }))
    }
}

/// Encrypts a connection and checks that it leads to the upstream.
async fn encrypt(
    upstream: &Upstream,
    stream: TcpStream,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<UpstreamIo, ConnectError> {
    let failed = |source| ConnectError::Tls {
        host: upstream.host.clone(),
        source,
    };
    let name = upstream.host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(name.to_owned())
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let stream = TlsConnector::from(Arc::clone(tls))
        .connect(name, stream)
        .await
        .map_err(failed)?;
    Ok(UpstreamIo::Tls(Box::new(stream)))
}

/// Resolves an upstream's name once. One answer out of reach condemns them all:
/// such a name is misconfigured or attacked.
async fn resolve(upstream: &Upstream) -> Result<Vec<SocketAddr>, ConnectError> {
    let host = &upstream.host;
    let addresses: Vec<_> = match literal_address(host) {
        Some(address) => vec![SocketAddr::new(address, upstream.port)],
        None => tokio::net::lookup_host((host.as_str(), upstream.port))
            .await
            .map_err(|source| ConnectError::Resolve {
                host: host.clone(),
                source,
            })?
            .collect(),
    };
    if addresses.is_empty() {
        return Err(ConnectError::NoAddress { host: host.clone() });
    }
    match addresses.iter().find(|a| !upstream.reach.allows(a.ip())) {
        Some(&address) => Err(ConnectError::OutOfReach {
            host: host.clone(),
            address,
        }),
        None => Ok(addresses),
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Clear(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
