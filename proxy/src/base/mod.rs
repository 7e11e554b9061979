//! Tools that know nothing of the proxy.

pub mod bind;
pub(crate) mod executor;
pub(crate) mod headers;
pub(crate) mod network;
pub(crate) mod path;
pub(crate) mod percent;
pub(crate) mod period;

pub(crate) use drawbridge_shared::chain::chain;
