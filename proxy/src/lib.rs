//! The credential proxy: it stands between agents that hold no key and the APIs
//! that want one.
//!
//! A request is authenticated by its session token, matched against a route,
//! stripped of every credential the client sent, given the real one, and
//! streamed. `request/mod.rs` and `request/forward.rs` read top to bottom in that
//! order.

mod base;
mod cli;
pub mod config;
mod control;
pub mod credential;
mod handle;
mod http1;
mod observe;
mod policy;
mod request;
mod routes;
mod scrub;
mod secret;
mod server;
pub mod session;
mod upstream;
mod usage;

pub use base::bind;
pub use base::network::{InvalidNetwork, Network};
pub use cli::main_impl;
pub use handle::{DrainOutcome, ProxyHandle, Reloader, StartError, hint_of};
pub use observe::audit::OpenError;
pub use policy::{ErrorShape, InvalidRouteName, InvalidRule, RouteName, Rule};
pub use server::{ListenError, ListenerGuard};
pub use upstream::tls::TlsError;
pub use upstream::{InvalidUpstream, OutgoingProxy, Upstream};

/// Internals that benches, fuzz targets and tests need.
#[doc(hidden)]
pub mod testing {
    pub use crate::observe::audit::{Anchor, Hash, InvalidAnchor, Report, VerifyError, verify};
    pub use crate::scrub::{MASK, Patterns, PatternsError, Scrubber};
    pub use crate::usage::{Usage, UsageMeter};

    #[cfg(fuzzing)]
    pub fn accepts_target(uri: &http::Uri) -> bool {
        crate::base::path::check(uri).is_ok()
    }

    #[cfg(fuzzing)]
    pub fn strip_request(headers: &mut http::HeaderMap) {
        crate::base::headers::strip_request(headers);
    }

    #[cfg(fuzzing)]
    pub fn presented_credentials(headers: &http::HeaderMap, query: Option<&str>) -> Vec<Vec<u8>> {
        crate::request::presented_credentials(headers, query)
    }
}
