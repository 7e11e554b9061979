//! The proxy from outside: raw bytes in, raw bytes out.
#![cfg(test)]

mod attacks;
mod credentials;
mod early;
mod exchange;
mod program;
mod protocols;
mod smuggling;
mod support;
