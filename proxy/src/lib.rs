//! The credential proxy: it stands between agents that hold no key and the APIs
//! that want one.
//!
//! A request is authenticated by its session token, matched against a route,
//! stripped of every credential the client sent, given the real one, and
//! streamed. `request` and `forward` read top to bottom as that story.

mod admin;
pub mod audit;
mod authenticate;
pub mod bind;
mod body;
mod cli;
pub mod config;
pub mod credential;
mod error;
mod executor;
mod forward;
mod headers;
pub mod metrics;
pub mod network;
mod request;
pub mod route;
pub mod scrub;
mod server;
pub mod session;
mod table;
mod target;
pub mod telemetry;
mod upgrade;
mod upstream;
pub mod usage;

pub use cli::main_impl;
pub(crate) use drawbridge_shared::chain::chain;
pub use server::{DrainOutcome, ListenError, ListenerGuard, ProxyHandle, Reloader, StartError};
pub use upstream::tls::TlsError;
pub use upstream::{InvalidUpstream, OutgoingProxy, Reach, Scheme, Upstream};

/// What the fuzz targets need of the inside; see `proxy/fuzz`.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub fn accepts_target(uri: &http::Uri) -> bool {
        crate::target::check(uri).is_ok()
    }

    pub fn strip_request(headers: &mut http::HeaderMap) {
        crate::headers::strip_request(headers);
    }

    pub fn presented_credentials(headers: &http::HeaderMap, query: Option<&str>) -> Vec<Vec<u8>> {
        crate::authenticate::presented_credentials(headers, query)
    }
}
