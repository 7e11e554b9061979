//! Compares the proxy with nginx, HAProxy and a minimal Node proxy.
//!
//! ```text
//! cargo bench -p drawbridge-proxy --bench proxy -- [--quick] [--rounds N] [--seconds S] [--write]
//!     [--figure TEXT] [--proxy NAME]...
//! ```
//!
//! Every proxy does its work on one thread, checks the client's token, removes
//! its credentials, puts the real key in, and talks to the same upstream. In
//! each round all of them are measured in turn, so that a machine that is busy
//! for a while is busy for all; what counts are the ratios within a round. With
//! `--write` a summary goes into `docs/performance.md`, above what is written
//! there by hand, a chart into `docs/performance.svg`, and all figures into
//! `docs/data/proxy.tsv`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench reports on the terminal"
)]

mod clock;
mod http;
mod load;
mod micro;
mod ours;
mod peers;
mod plot;
mod report;
mod stats;
mod suite;
mod upstream;

use std::time::Duration;

use anyhow::{Context as _, bail};

use peers::Kind;

/// What was asked for on the command line.
struct Options {
    rounds: usize,
    /// How long one proxy is measured in one round of one figure.
    time: Duration,
    is_written: bool,
    /// Only figures whose title contains this.
    figure: String,
    /// Only these; all when empty.
    proxies: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == ours::FLAG).is_some() {
        return ours::serve(arguments);
    }
    let options = Options::parse(arguments.filter_map(|argument| argument.into_string().ok()))?;
    let kinds = available(&options);
    let upstream = upstream::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let suite = suite::Suite::new(upstream, kinds, &options)?;
    let figures = runtime.block_on(suite.run())?;
    let passes = micro::passes(options.rounds, options.time / 4)?;
    println!("{}", report::tables(&figures, &passes));
    if options.is_written {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
        std::fs::create_dir_all(format!("{docs}/data"))?;
        let page = format!("{docs}/performance.md");
        let before = std::fs::read_to_string(&page).unwrap_or_default();
        let summary = report::page(&figures, &passes, &options);
        std::fs::write(&page, summary + report::written_by_hand(&before))?;
        std::fs::write(format!("{docs}/performance.svg"), report::picture(&figures))?;
        let data = report::data(&figures, &passes);
        std::fs::write(format!("{docs}/data/proxy.tsv"), data)?;
    }
    Ok(())
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self {
            rounds: 5,
            time: Duration::from_secs(2),
            is_written: false,
            figure: String::new(),
            proxies: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                // Cargo says so.
                "--bench" => {}
                "--quick" => {
                    options.rounds = 1;
                    options.time = Duration::from_millis(300);
                }
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.time = Duration::from_secs_f64(value()?.parse()?),
                "--write" => options.is_written = true,
                "--figure" => options.figure = value()?,
                "--proxy" => options.proxies.push(value()?),
                other => {
                    bail!("{other:?} is not an option; see the first lines of the bench's main.rs")
                }
            }
        }
        Ok(options)
    }
}

/// All proxies that can be run here; says which cannot, and why.
fn available(options: &Options) -> Vec<Kind> {
    let can_run = |kind: &Kind| match kind.version() {
        Ok(_) => true,
        Err(reason) => {
            eprintln!("{} is left out: {reason}", kind.name());
            false
        }
    };
    let is_wanted = |kind: &Kind| {
        let wanted = &options.proxies;
        wanted.is_empty() || wanted.iter().any(|name| name == kind.name())
    };
    Kind::ALL
        .into_iter()
        .filter(is_wanted)
        .filter(can_run)
        .collect()
}
