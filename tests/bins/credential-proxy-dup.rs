//! `credential-proxy`, for tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    drawbridge_proxy::main_impl(std::env::args_os()).into()
}
