//! Fakes and drivers for tests of Drawbridge's programs.
//!
//! Tests use what a user can see: command lines, sockets, standard streams and
//! files. They never sleep to wait; [`wait::eventually`] and the waiting methods
//! of [`Program`] and [`Upstream`] wait for the event itself, with a deadline,
//! and a failure shows what was seen until then.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test harness reports trouble by panicking"
)]

pub mod canary;
pub mod client;
pub mod dialogue;
pub mod engine;
pub mod exchange;
pub mod git;
pub mod launcher;
pub mod model;
pub mod nanoclaw;
pub mod peers;
pub mod program;
pub mod proxy_program;
pub mod request;
pub mod requirement;
pub mod runner;
pub mod serve;
pub mod tls;
pub mod upstream;
pub mod wait;

pub use canary::Canary;
pub use dialogue::Dialogue;
pub use exchange::Exchange;
pub use launcher::{Credential, Launcher};
pub use model::{Answer, Model, Piece, Turn};
pub use program::{Ended, Program, program_path};
pub use proxy_program::ProxyProgram;
pub use request::Request;
pub use serve::Serve;
pub use upstream::Upstream;
pub use wait::{Gate, PATIENCE, eventually};

/// The API key of all tests: an obvious fake that a grep finds anywhere.
pub const FAKE_KEY: &str = "sk-ant-fake-CANARY-0123456789";
/// The OAuth token of all tests.
pub const FAKE_OAUTH: &str = "sk-ant-oat-fake-CANARY-9876543210";

/// The variable that names a socket on which the tests' `credential-proxy` tells
/// how many bytes of its heap are in use.
pub const HEAP_SOCKET: &str = "DRAWBRIDGE_TESTS_HEAP";
