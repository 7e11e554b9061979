//! The figures as a section of `docs/performance.md`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::subject::Kind;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Start,
    FollowUp,
    IdleMemory,
    Events,
    Output,
    MemoryAfter,
}

/// The values of one row.
pub(crate) struct Figure {
    pub(crate) row: Row,
    title: &'static str,
    budget: &'static str,
    ours: Vec<f64>,
    node: Vec<f64>,
}

impl Figure {
    pub(crate) fn all() -> Vec<Self> {
        let figure = |row, title, budget| Self {
            row,
            title,
            budget,
            ours: Vec::new(),
            node: Vec::new(),
        };
        vec![
            figure(Row::Start, "Process start to agent started, ms", "under 10"),
            figure(
                Row::FollowUp,
                "Follow-up file to the agent, ms",
                "p50 under 3",
            ),
            figure(Row::IdleMemory, "Resident at rest, MB", "under 10"),
            figure(Row::Events, "Events of 200 bytes per second", "10,000"),
            figure(Row::Output, "Tool output, MB per second", "none"),
            figure(Row::MemoryAfter, "Resident after 100 MB of it, MB", "none"),
        ]
    }

    pub(crate) fn add(&mut self, kind: Kind, value: f64) {
        match kind {
            Kind::Ours => self.ours.push(value),
            Kind::Node => self.node.push(value),
        }
    }

    fn line(&self) -> String {
        let (ours, node) = (Spread::of(&self.ours), Spread::of(&self.node));
        let ratio = ours.p50 / node.p50;
        let (title, budget) = (self.title, self.budget);
        let (ours, node) = (ours.middle(), node.middle());
        format!("| {title} | {budget} | {ours} | {node} | {ratio:.3} |")
    }

    /// A line of data for each runner.
    fn data(&self) -> String {
        let line = |name: &str, values: &[f64]| {
            let columns = Spread::of(values).columns();
            format!("{}\t{}\t{name}\t{columns}\n", self.title, self.budget)
        };
        line("agent-runner", &self.ours) + &line("Node", &self.node)
    }
}

/// Least, middle, and greatest of some values; the 99th percentile too.
struct Spread {
    min: f64,
    p50: f64,
    p99: f64,
    max: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let index = (sorted.len().saturating_sub(1) * percent).div_ceil(100);
            sorted.get(index).copied().unwrap_or(f64::NAN)
        };
        Self {
            min: at(0),
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

impl Spread {
    fn digits(&self) -> usize {
        if self.p50 < 100.0 { 2 } else { 0 }
    }

    /// The median alone.
    fn middle(&self) -> String {
        format!("{:.*}", self.digits(), self.p50)
    }

    /// All four with tabs between them.
    fn columns(&self) -> String {
        let digits = self.digits();
        let all = [self.min, self.p50, self.p99, self.max];
        all.map(|value| format!("{value:.digits$}")).join("\t")
    }
}

const HEADING: &str = "## Runner";

/// The section, with the machine and the date.
pub(crate) fn section(figures: &[Figure], program: &Path, rounds: usize) -> anyhow::Result<String> {
    let size = fs::metadata(program)?.len() as f64 / 1_000_000.0;
    let date = jiff::Zoned::now().strftime("%Y-%m-%d").to_string();
    let mut text = format!(
        "{HEADING}\n\n\
         `cargo bench --profile runner -p drawbridge-runner --bench runner -- --write PROGRAM`,\n\
         compared with a minimal runner in Node of NanoClaw's shape\n\
         (`runner/benches/runner/node-runner.mjs`: a poll of 500 ms, one process, no receipts).\n\
         Both drive the same agent, in turn, {rounds} rounds. Values are medians, the ratio is\n\
         ours to Node's; least, p99 and greatest are in [data/runner.tsv](data/runner.tsv).\n\
         {machine}, {date}.\n\n\
         | What | Budget | agent-runner | Node | Ratio |\n|---|---|---|---|---|\n",
        machine = machine(),
    );
    for figure in figures {
        writeln!(text, "{}", figure.line())?;
    }
    writeln!(
        text,
        "| Binary with profile `runner`, MB | under 8 | {size:.2} | | |"
    )?;
    Ok(text)
}

/// All figures as lines of values that tabs separate.
pub(crate) fn data(figures: &[Figure]) -> String {
    let lines: String = figures.iter().map(Figure::data).collect();
    format!("figure\tbudget\trunner\tleast\tmedian\tp99\tgreatest\n{lines}")
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("an unknown processor", |text| {
        text.trim_start_matches(['\t', ' ', ':'])
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    format!("{model}, {cores} cores, load average {load} at the end")
}

/// Puts the section in place of the old one, and the data into its file.
pub(crate) fn write(section: &str, data: &str) -> anyhow::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    fs::create_dir_all(docs.join("data"))?;
    fs::write(docs.join("data/runner.tsv"), data)?;
    let path = docs.join("performance.md");
    let old = fs::read_to_string(&path).unwrap_or_else(|_| "# Performance\n".to_owned());
    let (before, rest) = old.split_once(HEADING).unwrap_or((&old, ""));
    let after = rest.find("\n## ").map_or("", |at| &rest[at + 1..]);
    let text = [before.trim_end(), section.trim_end(), after.trim_end()];
    let text: Vec<_> = text.into_iter().filter(|part| !part.is_empty()).collect();
    Ok(fs::write(path, text.join("\n\n") + "\n")?)
}
