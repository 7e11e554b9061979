//! Async tools of all of Drawbridge's programs.
//!
//! Each of them bounds what a peer can make this process keep. There is neither
//! TLS nor cryptography here: the static runner uses this crate too.

pub mod http;
pub mod lines;
pub mod signals;
pub mod tail;
