//! Tests that need what is not on every machine.
//!
//! Where it is missing they are left out, and the output says which and why.
//! `DRAWBRIDGE_TESTS_REQUIRE`, a list such as `engine,claude`, turns a missing
//! one into a failure.

use std::io::Write;
use std::path::PathBuf;

use libtest_mimic::{Failed, Trial};

/// The tests that can run: all of them if what they need is there, else none,
/// or one that fails.
#[must_use]
pub fn trials(name: &str, availability: Result<(), String>, tests: Vec<Trial>) -> Vec<Trial> {
    let Err(reason) = availability else {
        return tests;
    };
    let required = std::env::var("DRAWBRIDGE_TESTS_REQUIRE").unwrap_or_default();
    if required.split(',').any(|word| word.trim() == name) {
        let fails = move || Err(Failed::from(reason));
        return vec![Trial::test(format!("{name}::is_available"), fails)];
    }
    let count = tests.len();
    let _ = writeln!(
        std::io::stderr(),
        "left out: {count} {name} tests, because {reason}"
    );
    Vec::new()
}

/// Where a program is, by the search path.
///
/// # Errors
/// It is not there.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(name));
    candidates
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("{name} is not installed"))
}
