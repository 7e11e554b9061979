//! Rules of the proxy and the refusals that enforce them, as plain data.

mod limits;
mod refusal;
mod rules;

pub use limits::{ClientAuth, Deadlines, Fsync, Injection, Limits};
pub(crate) use refusal::{ErrorStyle, Fault, Refusal};
pub use rules::{ErrorShape, InvalidRouteName, InvalidRule, RouteName, Rule};
