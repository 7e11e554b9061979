//! The proxy from outside: raw bytes in, raw bytes out.
#![cfg(test)]

mod credentials;
mod exchange;
mod program;
mod protocols;
mod smuggling;
mod support;
