//! Tests of what the programs promise each other and their users, without a
//! container engine.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod codex_login;
mod documents;
mod failures;
mod harness;
mod launcher;
mod layers;
mod registered;
mod rules;
mod serve;
mod stopped_reader;
