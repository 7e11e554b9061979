//! Listeners, the worker threads that accept from them, and the connections of
//! clients.

mod client_io;
mod connection;
mod listener;
mod quota;
mod stall;
mod worker;

pub(crate) use connection::ACCEPT_PAUSE;
pub(crate) use listener::{Acceptor, Socket, SocketKind};
pub use listener::{ListenError, ListenerGuard};
pub(crate) use quota::Quota;
pub(crate) use worker::{Command, Setup, start};
