//! The proxy from outside: raw bytes in, raw bytes out.
#![cfg(test)]

mod attacks;
mod budgets;
mod credentials;
mod environment;
mod exchange;
mod fairness;
mod full_disk;
mod program;
mod protocols;
mod smuggling;
mod stalled;
mod streams;
mod support;
mod upgrades;
