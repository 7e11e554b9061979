//! Definitions that Drawbridge's programs share.
//!
//! The launcher, the runner and the proxy are separate programs on two sides of
//! a container's wall. Everything that crosses the wall is defined here, once:
//! the run's input and output documents, the markers that frame output records,
//! the IPC files, ids, environment names and exit codes. There is no network and
//! no async code in this crate.

pub mod chain;
pub mod env;
pub mod exit;
pub mod file;
pub mod ids;
pub mod ipc;
pub mod json;
pub mod marker;
pub mod period;
pub mod privacy;
pub mod protocol;
