//! The runner with fake agents, through its command line, pipes and files.
//!
//! This program starts itself again as the fake agent, so it needs a `main`
//! of its own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a test, which clippy cannot see without `#[test]`"
)]

mod claude;
mod command;
mod fake_claude;
mod fake_rpc_agent;
mod harness;
mod inbox;
mod input;
mod misbehaviour;
mod noise;
mod opencode;
mod records;
mod requests;
mod rpc_agents;
mod surroundings;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("fake-agent") {
        let scenario = args.next().unwrap_or_default();
        if scenario.starts_with("codex-") || scenario.starts_with("acp-") {
            return fake_rpc_agent::main(&scenario, &args.collect::<Vec<_>>());
        }
        if let Some(scenario) = scenario.strip_prefix("opencode-") {
            return opencode::fake_agent(scenario, &args.collect::<Vec<_>>());
        }
        if let Some(scenario) = scenario.strip_prefix("command-") {
            return command::fake_agent(scenario);
        }
        return fake_claude::main(&scenario, &args.collect::<Vec<_>>());
    }
    let tests = [
        input::TESTS,
        command::TESTS,
        inbox::TESTS,
        claude::TESTS,
        misbehaviour::TESTS,
        opencode::TESTS,
        records::TESTS,
        requests::TESTS,
        rpc_agents::TESTS,
        surroundings::TESTS,
    ]
    .concat();
    let trials = tests.into_iter().map(|(name, body)| {
        Trial::test(name, move || {
            body();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Lists tests by their own names.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[(&str, fn())] =
            &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}
pub(crate) use tests;
