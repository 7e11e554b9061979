//! The proxy's listener for one run, and its address for the runner.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;

use drawbridge_proxy::session::{ListenerId, SessionGuard};
use drawbridge_proxy::{ListenerGuard, ProxyHandle};
use drawbridge_shared::env::PROXY_SOCKET;
use drawbridge_shared::protocol::{AuthMode, ProxyAccess, ProxyEndpoint};

use super::context::RunContext;
use crate::engine::{Engine, RunNetwork, Runtime};
use crate::error::{Context, Error, Result};
use crate::spec::Network;

/// A listener of the proxy for one run; it closes when dropped.
#[derive(Debug)]
pub(super) struct Endpoint {
    listener: ListenerGuard,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// A socket in the run's folder, mounted into the container.
    Socket,
    /// An address that the container reaches over the run's own network.
    Bridge(SocketAddr, Engine, RunNetwork),
    /// Loopback, for an agent on this machine.
    Loopback(SocketAddr),
}

impl Endpoint {
    /// Opens the one way to the network that the run gets; never a wildcard address.
    pub(super) fn open(proxy: &ProxyHandle, context: &RunContext<'_>) -> Result<Self> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        match (&context.runtime, &context.network) {
            (Runtime::Container(..), None) => {
                let path = context.folder.socket();
                let listener = proxy.listen_unix(&path).context(|| {
                    let path = path.display();
                    Error::not_started(format!("the proxy cannot listen on {path}"))
                })?;
                let kind = Kind::Socket;
                Ok(Self { listener, kind })
            }
            (Runtime::Container(engine, _), Some(network)) => {
                // Virtual machines forward the host's name to our loopback.
                let address = network.gateway().unwrap_or(loopback);
                let (listener, address) = listen_tcp(proxy, address)?;
                let kind = Kind::Bridge(address, *engine, network.clone());
                Ok(Self { listener, kind })
            }
            (Runtime::Host, _) => {
                let (listener, address) = listen_tcp(proxy, loopback)?;
                let kind = Kind::Loopback(address);
                Ok(Self { listener, kind })
            }
        }
    }

    /// The only listener on which the run's session is good.
    pub(super) const fn listener(&self) -> ListenerId {
        self.listener.id()
    }

    /// The TCP port, if it has one.
    pub(super) const fn port(&self) -> Option<NonZeroU16> {
        match self.kind {
            Kind::Socket => None,
            Kind::Bridge(address, ..) | Kind::Loopback(address) => NonZeroU16::new(address.port()),
        }
    }

    pub(super) const fn is_socket(&self) -> bool {
        matches!(self.kind, Kind::Socket)
    }

    /// The network that a container needs to reach it.
    pub(super) fn network(&self) -> Network {
        match &self.kind {
            Kind::Bridge(.., network) => Network::Bridge {
                name: network.name().to_owned(),
                host: network.gateway(),
            },
            Kind::Socket | Kind::Loopback(_) => Network::Sealed,
        }
    }

    /// The runner's access to it, with the token of a session.
    pub(super) fn access(&self, session: &SessionGuard, auth_mode: AuthMode) -> ProxyAccess {
        let endpoint = match &self.kind {
            Kind::Socket => ProxyEndpoint::Unix(PROXY_SOCKET.into()),
            Kind::Bridge(address, engine, _) => {
                ProxyEndpoint::Url(format!("http://{}:{}", engine.host_alias(), address.port()))
            }
            Kind::Loopback(address) => ProxyEndpoint::Url(format!("http://{address}")),
        };
        ProxyAccess {
            endpoint,
            token: session.token().to_owned(),
            auth_mode,
        }
    }
}

/// Listens on a free port, so that a port in use is never in the way.
fn listen_tcp(proxy: &ProxyHandle, address: IpAddr) -> Result<(ListenerGuard, SocketAddr)> {
    let failed = || Error::not_started(format!("the proxy cannot listen on {address}"));
    let listener = proxy
        .listen_tcp(SocketAddr::new(address, 0))
        .context(failed)?;
    let address = listener.local_addr().ok_or_else(failed)?;
    Ok((listener, address))
}
