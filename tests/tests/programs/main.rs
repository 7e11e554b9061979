//! What programs that are not ours make of the proxy: other proxies to compare
//! it with, and clients that talk through it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod claude;
mod git;
mod proxy;
mod sdks;
mod smuggling;
mod soak;

use std::process::ExitCode;

use drawbridge_testkit::requirement;
use libtest_mimic::{Arguments, Trial};

/// A test and its name.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let groups = [
        ("peers", smuggling::availability(), smuggling::TESTS),
        ("git", git::availability(), git::TESTS),
        ("sdks", sdks::availability(), sdks::TESTS),
        ("claude", claude::availability(), claude::TESTS),
        ("soak", Ok(()), soak::TESTS),
    ];
    let trials = groups.map(|(name, availability, tests)| {
        requirement::trials(name, availability, named(name, tests))
    });
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn named(group: &str, tests: &[Test]) -> Vec<Trial> {
    let trial = |(name, test): &Test| {
        let test = *test;
        Trial::test(format!("{group}::{name}"), move || {
            test();
            Ok(())
        })
    };
    tests.iter().map(trial).collect()
}
