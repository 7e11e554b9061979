//! Which address to listen on, so that containers reach the proxy and the
//! network around the host does not.
//!
//! The rule is a pure function over observed facts, so each platform's row is
//! tested on every platform.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// Files whose presence says that Linux runs inside WSL.
const WSL_INTEROP: [&str; 2] = [
    "/proc/sys/fs/binfmt_misc/WSLInterop",
    "/proc/sys/fs/binfmt_misc/WSLInterop-late",
];

/// Docker's default bridge.
const DOCKER_BRIDGE: &str = "docker0";

/// The operating systems that the bind rule tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostOs {
    /// Linux, WSL included.
    Linux,
    /// macOS, where containers run in a virtual machine.
    MacOs,
    /// Anything else; only an explicit address is accepted there.
    Other,
}

/// A network interface and one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name, such as `docker0`.
    pub name: String,
    /// One address of the interface.
    pub address: IpAddr,
}

/// The facts that the bind rule decides on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The operating system.
    pub os: HostOs,
    /// Whether this Linux runs inside WSL.
    pub is_wsl: bool,
    /// All addresses of all interfaces.
    pub interfaces: Vec<Interface>,
}

/// Why no address was chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// An address that means "every interface" was asked for.
    #[error("address {0} would offer the proxy to every network of this host")]
    Wildcard(IpAddr),
    /// None of the known set-ups was recognised.
    #[error("no address to listen on: there is no docker0 interface with an IPv4 address")]
    NoBridge,
}

impl BindError {
    /// The fix, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        let hint = match self {
            Self::Wildcard(_) => {
                "name one address, or add --allow-wildcard if a firewall guards the port"
            }
            Self::NoBridge => {
                "start the container engine, or name the address with --bind (127.0.0.1 for \
                 rootless engines), or listen on a socket with --socket"
            }
        };
        Some(hint.into())
    }
}

impl HostFacts {
    /// Looks at the host that the program runs on.
    ///
    /// Interfaces that cannot be listed count as absent: the rule then asks for
    /// an explicit address, which is the safe side.
    #[must_use]
    pub fn observe() -> Self {
        let os = match std::env::consts::OS {
            "linux" => HostOs::Linux,
            "macos" => HostOs::MacOs,
            _ => HostOs::Other,
        };
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        Self {
            os,
            is_wsl: WSL_INTEROP.iter().any(|file| Path::new(file).exists()),
            interfaces: interfaces
                .into_iter()
                .map(|interface| Interface {
                    address: interface.ip(),
                    name: interface.name,
                })
                .collect(),
        }
    }

    fn docker_bridge(&self) -> Option<IpAddr> {
        self.interfaces
            .iter()
            .find(|i| i.name == DOCKER_BRIDGE && i.address.is_ipv4())
            .map(|i| i.address)
    }
}

/// Chooses the address to listen on.
///
/// In this order: the explicit one; macOS and WSL under Docker Desktop use
/// loopback, which the desktop's virtual machine forwards to; a `docker0` with
/// an IPv4 address (Linux, and an engine of its own inside WSL) is the address
/// containers can reach. There is no fallback to a wildcard.
///
/// # Errors
/// A wildcard was asked for without `allow_wildcard`, or no set-up was
/// recognised and an address has to be named.
pub fn choose_address(
    explicit: Option<IpAddr>,
    facts: &HostFacts,
    allow_wildcard: bool,
) -> Result<IpAddr, BindError> {
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Some(address) = explicit {
        return if is_wildcard(address) && !allow_wildcard {
            Err(BindError::Wildcard(address))
        } else {
            Ok(address)
        };
    }
    match (facts.os, facts.docker_bridge()) {
        (HostOs::MacOs, _) => Ok(LOOPBACK),
        (HostOs::Linux, Some(bridge)) => Ok(bridge),
        (HostOs::Linux, None) if facts.is_wsl => Ok(LOOPBACK),
        (HostOs::Linux | HostOs::Other, _) => Err(BindError::NoBridge),
    }
}

/// Whether an address means "every interface", also in its v4-mapped spelling.
fn is_wildcard(address: IpAddr) -> bool {
    address.to_canonical().is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "127.0.0.1";
    const BRIDGE: &str = "172.17.0.1";

    fn facts(os: HostOs, is_wsl: bool, interfaces: &[(&str, &str)]) -> HostFacts {
        let interfaces = interfaces
            .iter()
            .map(|(name, address)| Interface {
                name: (*name).to_owned(),
                address: address.parse().unwrap(),
            })
            .collect();
        HostFacts {
            os,
            is_wsl,
            interfaces,
        }
    }

    fn chosen(facts: &HostFacts) -> Result<String, BindError> {
        choose_address(None, facts, false).map(|a| a.to_string())
    }

    #[test]
    fn linux_binds_the_docker_bridge() {
        let host = [("lo", LOOPBACK), ("eth0", "10.0.0.7"), ("docker0", BRIDGE)];
        assert_eq!(chosen(&facts(HostOs::Linux, false, &host)).unwrap(), BRIDGE);
    }

    #[test]
    fn macos_binds_loopback_even_with_a_bridge_of_that_name() {
        let host = [("lo0", LOOPBACK), ("docker0", BRIDGE)];
        assert_eq!(
            chosen(&facts(HostOs::MacOs, false, &host)).unwrap(),
            LOOPBACK
        );
    }

    #[test]
    fn wsl_with_docker_desktop_binds_loopback() {
        let host = [("lo", LOOPBACK), ("eth0", "172.20.0.2")];
        assert_eq!(
            chosen(&facts(HostOs::Linux, true, &host)).unwrap(),
            LOOPBACK
        );
    }

    #[test]
    fn wsl_with_its_own_engine_binds_the_docker_bridge() {
        let host = [("lo", LOOPBACK), ("docker0", BRIDGE)];
        assert_eq!(chosen(&facts(HostOs::Linux, true, &host)).unwrap(), BRIDGE);
    }

    #[test]
    fn linux_without_a_bridge_asks_for_an_address() {
        let v6_only = [("lo", LOOPBACK), ("docker0", "fe80::1")];
        for host in [&[("lo", LOOPBACK)][..], &v6_only, &[("docker1", BRIDGE)]] {
            let error = chosen(&facts(HostOs::Linux, false, host)).unwrap_err();
            assert!(error.hint().unwrap().contains("--bind"), "{error}");
        }
    }

    #[test]
    fn an_unknown_system_asks_for_an_address() {
        let host = [("docker0", BRIDGE)];
        assert_eq!(
            chosen(&facts(HostOs::Other, false, &host)),
            Err(BindError::NoBridge)
        );
    }

    #[test]
    fn an_explicit_address_wins_everywhere() {
        let explicit: IpAddr = "192.168.64.1".parse().unwrap();
        for os in [HostOs::Linux, HostOs::MacOs, HostOs::Other] {
            let host = facts(os, false, &[("docker0", BRIDGE)]);
            assert_eq!(choose_address(Some(explicit), &host, false), Ok(explicit));
        }
    }

    #[test]
    fn class_02_a_wildcard_needs_a_second_flag() {
        let host = facts(HostOs::Linux, false, &[("docker0", BRIDGE)]);
        for wildcard in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
            let wildcard: IpAddr = wildcard.parse().unwrap();
            assert_eq!(
                choose_address(Some(wildcard), &host, false),
                Err(BindError::Wildcard(wildcard))
            );
            assert_eq!(choose_address(Some(wildcard), &host, true), Ok(wildcard));
        }
    }

    #[test]
    fn this_host_has_a_loopback_interface() {
        let facts = HostFacts::observe();
        assert!(facts.interfaces.iter().any(|i| i.address.is_loopback()));
    }
}
