//! Opening one connection: resolve once, vet every answer, connect, encrypt.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::{OutgoingProxy, Reach, Scheme, Upstream, literal_address};

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
    #[error("the outgoing proxy {proxy} did not answer")]
    Tunnel { proxy: String, source: io::Error },
    #[error("the outgoing proxy {proxy} refused the connection with status {status}")]
    TunnelRefused { proxy: String, status: String },
    #[error("the HTTP connection could not be set up")]
    Handshake(#[source] hyper::Error),
}

/// A stream to an upstream, in clear text or encrypted.
pub(crate) type UpstreamStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The opener of all connections of a worker.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: Arc<rustls::ClientConfig>,
    tls_http1: Arc<rustls::ClientConfig>,
    limit: Duration,
    outgoing: Option<OutgoingProxy>,
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
            outgoing: None,
        }
    }

    /// Connects through the network's own proxy from now on.
    #[must_use]
    pub(crate) fn through(mut self, outgoing: Option<OutgoingProxy>) -> Self {
        self.outgoing = outgoing;
        self
    }

    /// Opens a connection to an upstream, with the protocol that it prefers.
    pub(crate) async fn connect(
        &self,
        upstream: &Upstream,
    ) -> Result<(UpstreamStream, Protocol), ConnectError> {
        let io = self.in_time(upstream, &self.tls).await?;
        let protocol = match &io {
            Either::Right(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
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
    ) -> Result<UpstreamStream, ConnectError> {
        self.in_time(upstream, &self.tls_http1).await
    }

    async fn in_time(
        &self,
        upstream: &Upstream,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<UpstreamStream, ConnectError> {
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
    ) -> Result<UpstreamStream, ConnectError> {
        let stream = match &self.outgoing {
            Some(proxy) if upstream.scheme == Scheme::Https && proxy.applies_to(&upstream.host) => {
                self.connect_through(proxy, upstream).await?
            }
            _ => {
                let addresses = resolve(&upstream.host, upstream.port, upstream.reach).await?;
                self.connect_to_any(&addresses).await?
            }
        };
        match upstream.scheme {
            Scheme::Http => Ok(Either::Left(stream)),
            Scheme::Https => encrypt(upstream, stream, tls).await,
        }
    }

    /// Has the network's proxy connect to the upstream. It resolves the name, so
    /// only an address written in the URL can be vetted here.
    async fn connect_through(
        &self,
        proxy: &OutgoingProxy,
        upstream: &Upstream,
    ) -> Result<TcpStream, ConnectError> {
        let (host, port) = proxy.address();
        if literal_address(&upstream.host).is_some() {
            resolve(&upstream.host, upstream.port, upstream.reach).await?;
        }
        let addresses = resolve(host, port, Reach::Private).await?;
        let mut stream = self.connect_to_any(&addresses).await?;
        proxy
            .tunnel(&mut stream, &upstream.host, upstream.port)
            .await?;
        Ok(stream)
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
) -> Result<UpstreamStream, ConnectError> {
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
    Ok(Either::Right(Box::new(stream)))
}

/// Resolves a name once. One answer out of reach condemns them all:
/// such a name is misconfigured or attacked.
async fn resolve(host: &str, port: u16, reach: Reach) -> Result<Vec<SocketAddr>, ConnectError> {
    let addresses: Vec<_> = match literal_address(host) {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => tokio::net::lookup_host((host, port))
            .await
            .map_err(|source| ConnectError::Resolve {
                host: host.to_owned(),
                source,
            })?
            .collect(),
    };
    let host = host.to_owned();
    if addresses.is_empty() {
        return Err(ConnectError::NoAddress { host });
    }
    match addresses.iter().find(|a| !reach.allows(a.ip())) {
        Some(&address) => Err(ConnectError::OutOfReach { host, address }),
        None => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name is vetted at each connection, whatever it led to before.
    #[tokio::test]
    async fn class_13_a_name_that_leads_to_local_addresses_is_not_connected_to() {
        for host in ["localhost", "127.0.0.1", "[::1]", "10.1.2.3"] {
            let refused = resolve(host, 443, Reach::Public).await.unwrap_err();
            assert!(matches!(refused, ConnectError::OutOfReach { .. }), "{host}");
        }
        let metadata = resolve("169.254.169.254", 443, Reach::Private).await;
        assert!(matches!(metadata, Err(ConnectError::OutOfReach { .. })));
        let local = resolve("localhost", 443, Reach::Loopback).await.unwrap();
        assert!(!local.is_empty());
    }
}
