//! `agent-runner`, for tests.

use std::process::ExitCode;

use drawbridge_runner::{SelfCommand, main_impl};

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1);
    main_impl(&SelfCommand::this_program([]), args).into()
}
