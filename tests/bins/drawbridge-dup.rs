//! `drawbridge`, for tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    drawbridge_container::main_impl(std::env::args_os()).into()
}
