//! Many runs of the real program in which everything goes wrong at random.
//!
//! A scenario is a group's folder and a few runs in it, one after the other: a host
//! that sends follow-ups, interrupts, closes, stops and kills, and agents that
//! crash, leave, hang and make noise. The last run of a scenario is calm. After
//! each run every message was taken by an agent or is still on disk; none came
//! twice but to an agent that crashed, or that was at work when the run was
//! killed; every answer of an agent that ended in order is in one record; the run
//! has ended, with a record and an exit code that says how, and has left no
//! process.
//!
//! Every choice is made from a seed, which is printed:
//!
//! - `DRAWBRIDGE_CHAOS_SEED`: the seed; a new one when absent
//! - `DRAWBRIDGE_CHAOS_RUNS`: how many runs at least; 150 when absent
//! - `DRAWBRIDGE_CHAOS_SCENARIO`: one scenario only, by its number
//!
//! The seed repeats all that host and agents do, but not the scheduler.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "this is a test, which clippy cannot see without `#[test]`"
)]

mod agent;
mod check;
mod host;
mod scenario;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use libtest_mimic::{Arguments, Failed, Trial};

/// Scenarios at one time. Most of each is waiting.
const WORKERS: usize = 16;
/// Runs in the ordinary tests.
const USUAL_RUNS: u64 = 150;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("fake-agent") {
        return agent::main(&args.collect::<Vec<_>>());
    }
    let trials = TESTS.iter().map(|(name, test)| Trial::test(*name, *test));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// A test and its name.
type Test = (&'static str, fn() -> Result<(), Failed>);

const TESTS: &[Test] = &[(
    "chaos_loses_no_message_and_hangs_no_run",
    chaos_loses_no_message_and_hangs_no_run,
)];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn chaos_loses_no_message_and_hangs_no_run() -> Result<(), Failed> {
    let seed = number("DRAWBRIDGE_CHAOS_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) ^ now.as_secs()
    });
    println!("DRAWBRIDGE_CHAOS_SEED={seed}");
    let only = number("DRAWBRIDGE_CHAOS_SCENARIO");
    let wanted = number("DRAWBRIDGE_CHAOS_RUNS").unwrap_or(USUAL_RUNS);
    let (next, runs) = (AtomicU64::new(only.unwrap_or(0)), AtomicU64::new(0));
    let failures = Mutex::new(Vec::new());
    let started = Instant::now();
    let work = || {
        while runs.load(Ordering::Relaxed) < wanted && failures.lock().unwrap().is_empty() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if only.is_some_and(|only| only != number) {
                return;
            }
            if let Err(failure) = scenario::play(seed, number, &runs) {
                let failure = format!("scenario {number}: {failure}");
                failures.lock().unwrap().push(failure);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    let (count, took) = (runs.into_inner(), started.elapsed());
    println!("{count} runs in {took:.0?}");
    let failures = failures.into_inner().unwrap();
    if failures.is_empty() {
        return Ok(());
    }
    Err(format!("DRAWBRIDGE_CHAOS_SEED={seed}\n{}", failures.join("\n")).into())
}
