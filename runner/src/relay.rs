//! Offers the proxy's unix socket on loopback.
