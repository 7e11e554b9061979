//! The proxy from outside: raw bytes in, raw bytes out.
#![cfg(test)]

mod exchange;
mod program;
mod support;
