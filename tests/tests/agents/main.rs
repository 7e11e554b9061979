//! The real agents, each driven by the same suite, with a stand-in for its
//! vendor's API.
//!
//! Agents with an image of ours run sealed in it, the others on the host. What
//! is not there is left out, and the output says so;
//! `DRAWBRIDGE_TESTS_REQUIRE=claude,codex,opencode,gemini` turns that into a
//! failure. `DRAWBRIDGE_TESTS_AGENTS` is the folder with the programs.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod claude;
mod cli;
mod codex;
mod failures;
mod opencode;
mod suite;
mod tools;

use std::io::Write;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use cli::{Cli, Setting};

/// A test and its name.
type Test = (&'static str, fn(Setting));

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let required = std::env::var("DRAWBRIDGE_TESTS_REQUIRE").unwrap_or_default();
    let mut trials = Vec::new();
    for setting in Setting::ALL {
        let tests = tests_of(setting);
        let name = setting.name();
        let Err(reason) = setting.availability() else {
            trials.extend(tests.into_iter().map(|(test, body)| {
                Trial::test(format!("{name}::{test}"), move || {
                    body(setting);
                    Ok(())
                })
            }));
            continue;
        };
        let requirement = setting.cli.requirement();
        if required.split(',').any(|word| word.trim() == requirement) {
            let fails = move || Err(Failed::from(reason));
            trials.push(Trial::test(format!("{name}::is_available"), fails));
        } else {
            let count = tests.len();
            let _ = writeln!(
                std::io::stderr(),
                "left out: {count} tests of {name}, because {reason}"
            );
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn tests_of(setting: Setting) -> Vec<Test> {
    if !setting.is_whole_suite() {
        return suite::FIRST_TURN.to_vec();
    }
    let own: &[Test] = match setting.cli {
        Cli::Claude => claude::TESTS,
        Cli::OldestClaude => claude::OLDEST_TESTS,
        Cli::Codex => codex::TESTS,
        Cli::Opencode => opencode::TESTS,
        Cli::Gemini => &[suite::CHAT_TEXT],
    };
    [
        suite::FIRST_TURN,
        suite::TESTS,
        tools::TESTS,
        failures::TESTS,
        own,
    ]
    .concat()
}
