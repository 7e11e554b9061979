//! Which addresses an upstream's name may lead to.
//!
//! A name is resolved once, every answer is judged, and the connection is made
//! to an address that was judged. A name that suddenly means the cloud's
//! metadata service or a host of the local network (DNS rebinding) leads nowhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses a route accepts for its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Addresses of the public internet only.
    Public,
    /// Private networks and loopback too, but never link-local addresses, where
    /// metadata services live.
    Private,
    /// Loopback only: the rule for upstreams in clear text.
    Loopback,
}

impl Reach {
    /// Whether an address is within reach.
    #[must_use]
    pub(crate) fn allows(self, address: IpAddr) -> bool {
        let address = embedded_v4(address).map_or_else(|| address.to_canonical(), IpAddr::V4);
        if is_never_an_upstream(address) {
            return false;
        }
        match self {
            Self::Public => !is_local(address),
            Self::Private => true,
            Self::Loopback => address.is_loopback(),
        }
    }
}

/// Link-local (cloud metadata), multicast, unspecified and reserved addresses,
/// and metadata services at other well-known addresses.
fn is_never_an_upstream(address: IpAddr) -> bool {
    const AZURE_WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    const ALIBABA_METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    const AWS_METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            v4.is_link_local()
                || v4.is_multicast()
                || first == 0
                || first >= 240
                || v4 == AZURE_WIRE_SERVER
                || v4 == ALIBABA_METADATA
        }
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || v6.is_multicast()
                || v6.is_unspecified()
                || v6 == AWS_METADATA_V6
        }
    }
}

/// Loopback, private, shared and benchmark networks.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            v4.is_loopback()
                || v4.is_private()
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (b == 18 || b == 19))
        }
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unique_local() || v6.segments()[0] & 0xffc0 == 0xfec0
        }
    }
}

/// The IPv4 address that an IPv6 address carries to a gateway: mapped,
/// compatible, NAT64 (RFC 6052, RFC 8215) and 6to4.
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let last = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(last(high, low)),
        [0x64, 0xff9b, 1, _, _, _, high, low] => Some(last(high, low)),
        [0x2002, high, low, ..] => Some(last(high, low)),
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(last(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(last(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(reach: Reach, address: &str) -> bool {
        reach.allows(address.parse().unwrap())
    }

    #[test]
    fn class_13_local_addresses_are_not_public_in_any_spelling() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.17.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "fc00::1",
            "fd12::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::127.0.0.1",
            "2002:7f00:1::",
            "2002:0a00:1::",
            "::127.0.0.1",
            "198.18.0.1",
        ] {
            assert!(!allows(Reach::Public, address), "{address}");
            assert!(allows(Reach::Private, address), "{address}");
        }
        for address in ["160.79.104.10", "2607:6bc0::10", "64:ff9b::160.79.104.10"] {
            assert!(allows(Reach::Public, address), "{address}");
            assert!(!allows(Reach::Loopback, address), "{address}");
        }
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(allows(Reach::Loopback, address), "{address}");
        }
    }

    #[test]
    fn class_13_metadata_is_out_of_reach_even_when_configured() {
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::",
            "168.63.129.16",
            "100.100.100.200",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            for reach in [Reach::Public, Reach::Private, Reach::Loopback] {
                assert!(!allows(reach, address), "{address}");
            }
        }
    }
}
