//! Compares the runner with a minimal one in Node of NanoClaw's shape.
//!
//! ```text
//! cargo build --profile runner -p drawbridge-runner
//! cargo bench --profile runner -p drawbridge-runner --bench runner -- [--rounds N] [--write] PROGRAM
//! ```
//!
//! `PROGRAM` is the runner's binary as images have it, `target/runner/agent-runner`.
//! Both drive the same agent, in turn, so that a machine that is busy for a
//! while is busy for both. With `--write` the section "Runner" of
//! `docs/performance.md` is replaced, and all figures go into
//! `docs/data/runner.tsv`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench reports on the terminal"
)]

mod agent;
mod clock;
mod report;
mod subject;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;

use report::{Figure, Row};
use subject::{Kind, Subject};

/// Follow-ups per round.
const FOLLOW_UPS: usize = 40;
const EVENTS: u32 = 100_000;
const MEGABYTES: u32 = 100;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut rounds = 5;
    let mut is_written = false;
    let mut program = None;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "agent" => return agent::main(),
            "--rounds" => rounds = args.next().context("--rounds needs a number")?.parse()?,
            "--write" => is_written = true,
            // Cargo's own.
            "--bench" => {}
            _ => program = Some(PathBuf::from(arg)),
        }
    }
    let program = program
        .context("name the runner's binary")?
        .canonicalize()?;
    let node = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/benches/runner/node-runner.mjs"
    ));
    let mut figures = Figure::all();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for (kind, program) in [(Kind::Ours, program.as_path()), (Kind::Node, node)] {
            measure(kind, program, &mut figures).with_context(|| format!("{kind:?}"))?;
        }
    }
    let text = report::section(&figures, &program, rounds)?;
    println!("{text}");
    if is_written {
        report::write(&text, &report::data(&figures))?;
    }
    Ok(())
}

fn measure(kind: Kind, program: &Path, figures: &mut [Figure]) -> anyhow::Result<()> {
    let mut subject = Subject::start(kind, program, "hello")?;
    subject.record()?;
    let mut add = |row: Row, value: f64| {
        if let Some(figure) = figures.iter_mut().find(|figure| figure.row == row) {
            figure.add(kind, value);
        }
    };
    add(Row::Start, subject.start_millis()?);
    add(Row::IdleMemory, subject.resident_megabytes()?);
    // The one in Node looks every 500 ms, so fewer have to do.
    let follow_ups = if kind == Kind::Node {
        FOLLOW_UPS / 8
    } else {
        FOLLOW_UPS
    };
    for number in 0..follow_ups {
        add(
            Row::FollowUp,
            subject.follow_up(&format!("follow-up-{number}"))?,
        );
    }
    let begun = Instant::now();
    let waited = subject.follow_up(&format!("events {EVENTS}"))?;
    let took = begun.elapsed().as_secs_f64() - waited / 1000.0;
    add(Row::Events, f64::from(EVENTS) / took);
    let begun = Instant::now();
    let waited = subject.follow_up(&format!("megabytes {MEGABYTES}"))?;
    let took = begun.elapsed().as_secs_f64() - waited / 1000.0;
    add(Row::Output, f64::from(MEGABYTES) / took);
    add(Row::MemoryAfter, subject.resident_megabytes()?);
    subject.close()
}
