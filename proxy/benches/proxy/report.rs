//! The measured figures as Markdown.

use std::fmt::Write as _;

use crate::Options;
use crate::micro::Pass;
use crate::peers::Kind;
use crate::plot;
use crate::stats::{Series, Spread};

/// Which way a figure is better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

impl Better {
    const fn describe(self) -> &'static str {
        match self {
            Self::Higher => "more is better",
            Self::Lower => "less is better",
        }
    }
}

/// Columns of the summary.
const COLUMNS: [Kind; 4] = [Kind::Ours, Kind::HaProxy, Kind::Nginx, Kind::Node];

/// Titles of the figures in the summary.
const SUMMARY: [&str; 10] = [
    "Requests, 64 conn., clear upstream",
    "Processor time, 64 conn., clear upstream",
    "Latency p50, 1 conn., clear upstream",
    "Latency p99, 1 conn., clear upstream",
    "New connections",
    "Event delay p99, 1000 event streams",
    "Resident memory, 1000 event streams",
    "Resident memory, idle",
    "32 MB up",
    "32 MB down",
];

/// One proxy's part in a figure: what was measured, what it adds to no proxy,
/// and the ratio of ours to it.
struct Line {
    kind: Kind,
    measured: Spread,
    added: Option<Spread>,
    ratio: Option<Spread>,
}

/// One figure of all proxies.
pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) values: Vec<(Kind, Series)>,
}

impl Figure {
    pub(crate) fn of(&self, kind: Kind) -> Option<&Series> {
        let found = self.values.iter().find(|(of, _)| *of == kind);
        found.map(|(_, series)| series)
    }

    /// The proxies that were measured, with what they are compared by. Of delays
    /// it is the part that the proxy adds which is compared.
    fn lines(&self) -> Vec<Line> {
        let direct = self.of(Kind::Direct).filter(|_| self.unit == "µs");
        let added = |series: &Series| direct.map(|direct| series.less(direct));
        let compared = |series: &Series| added(series).unwrap_or_else(|| series.clone());
        let ours = self.of(Kind::Ours).map(compared);
        let known = self.values.iter().filter(|(_, series)| series.is_known());
        known
            .map(|(kind, series)| {
                let is_peer = !matches!(kind, Kind::Ours | Kind::Direct);
                let ours = ours.as_ref().filter(|_| is_peer);
                Line {
                    kind: *kind,
                    measured: series.spread(),
                    added: added(series).map(|added| added.spread()),
                    ratio: ours.map(|ours| ours.over(&compared(series)).spread()),
                }
            })
            .collect()
    }

    /// A table of this figure, with the ratio to ours of each round.
    fn table(&self) -> String {
        let lines = self.lines();
        let is_delay = lines.iter().any(|line| line.added.is_some());
        let (added, rule) = if is_delay {
            ("| added ", "|---")
        } else {
            ("", "")
        };
        let mut text = format!(
            "### {}\n\n| | {} ({}) {added}| Drawbridge / it |\n|---|---|---{rule}|\n",
            self.title,
            self.unit,
            self.better.describe()
        );
        for line in lines {
            let shown = |spread: Option<Spread>| spread.map_or_else(String::new, |s| s.to_string());
            let added = line
                .added
                .map_or_else(String::new, |added| format!(" {added} |"));
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} |{added} {} |",
                line.kind.name(),
                line.measured,
                shown(line.ratio)
            );
        }
        text.push('\n');
        text
    }

    /// The medians of all proxies as a row of the summary.
    fn summary(&self) -> String {
        let lines = self.lines();
        let added = if lines.iter().any(|line| line.added.is_some()) {
            " added"
        } else {
            ""
        };
        let mut text = format!(
            "| {} ({}{added}, {}) |",
            self.title,
            self.unit,
            self.better.describe()
        );
        let of = |kind: Kind| lines.iter().find(|line| line.kind == kind);
        for kind in COLUMNS {
            let median = of(kind).map_or_else(String::new, |line| {
                line.added.unwrap_or(line.measured).middle()
            });
            let _ = write!(text, " {median} |");
        }
        let ratio = of(Kind::HaProxy).and_then(|line| line.ratio);
        let _ = writeln!(
            text,
            " {} |",
            ratio.map_or_else(String::new, |s| s.to_string())
        );
        text
    }

    /// A line of data for each proxy and quantity.
    fn data(&self, text: &mut String) {
        for line in self.lines() {
            let quantities = [
                ("measured", Some(line.measured)),
                ("added", line.added),
                ("Drawbridge / it", line.ratio),
            ];
            for (quantity, spread) in quantities {
                // A ratio to nothing is not a number.
                let Some(spread) = spread.filter(|spread| spread.median.is_finite()) else {
                    continue;
                };
                let kind = line.kind.name();
                let (title, unit) = (&self.title, self.unit);
                let better = self.better.describe();
                let numbers = spread.columns();
                let _ = writeln!(
                    text,
                    "{title}\t{unit}\t{better}\t{kind}\t{quantity}\t{numbers}"
                );
            }
        }
    }
}

/// All figures and passes as tables, for the terminal.
pub(crate) fn tables(figures: &[Figure], passes: &[Pass]) -> String {
    let mut text: String = figures.iter().map(Figure::table).collect();
    text.push_str("### Passes over an answer's bytes\n\n| | GB/s |\n|---|---|\n");
    for pass in passes {
        let _ = writeln!(text, "| {} | {:.3} |", pass.name, speeds(pass));
    }
    text
}

/// All figures and passes as lines of values that tabs separate.
pub(crate) fn data(figures: &[Figure], passes: &[Pass]) -> String {
    let mut text = "figure\tunit\tbetter\tproxy\tquantity\tmedian\tleast\tlargest\n".to_owned();
    for figure in figures {
        figure.data(&mut text);
    }
    for pass in passes {
        let (name, numbers) = (pass.name, speeds(pass).columns());
        let better = Better::Higher.describe();
        let _ = writeln!(
            text,
            "{name}\tGB/s\t{better}\tDrawbridge\tmeasured\t{numbers}"
        );
    }
    text
}

fn speeds(pass: &Pass) -> Spread {
    Series(pass.speeds.clone()).spread()
}

/// The summary: the measured part of the page.
pub(crate) fn page(figures: &[Figure], passes: &[Pass], options: &Options) -> String {
    let mut text = format!(
        "# Performance\n\n\
         The first part is written by `cargo bench -p drawbridge-proxy --bench proxy -- --write`, with \
         all figures in [data/proxy.tsv](data/proxy.tsv). {}\n\n\
         All proxies use one thread, check the client's token, remove its credentials and put the \
         real key in, before the same upstream, on the same machine, in the same run, in turn. \
         Drawbridge also scrubs the key from answers and reads token usage from them. Figures are \
         the median of {} rounds of {:.1} s each; the ratios are taken within a round (least to \
         largest). Delays are what a proxy adds to the client talking to the upstream directly.\n\n\
         ![Bar chart of figures below](performance.svg)\n\n\
         | Figure |",
        machine(),
        options.rounds,
        options.time.as_secs_f64()
    );
    for kind in COLUMNS {
        let _ = write!(text, " {} |", kind.name());
    }
    text.push_str(" Drawbridge / HAProxy |\n|---|---|---|---|---|---|\n");
    for title in SUMMARY {
        let figure = figures.iter().find(|figure| figure.title == title);
        text.push_str(&figure.map(Figure::summary).unwrap_or_default());
    }
    if let [scrub, .., gzip] = passes {
        let _ = writeln!(
            text,
            "\nScrubbing an event stream passes {:.1} GB/s, decoding and encoding gzip {:.2} GB/s: so \
             the proxy asks upstreams for `identity`, and refuses an answer that is compressed \
             anyway, rather than decoding it.",
            speeds(scrub).median,
            speeds(gzip).median
        );
    }
    text
}

/// The part of a page that is not measured here: all from the first heading of
/// the second level on.
pub(crate) fn written_by_hand(page: &str) -> &str {
    page.find("\n## ").map_or("", |start| &page[start..])
}

/// The chart of the figures that the budgets are about.
pub(crate) fn picture(figures: &[Figure]) -> String {
    let starts = [
        "Requests",
        "New conn",
        "32 MB",
        "Event delay p99",
        "Resident",
    ];
    let shown: Vec<_> = figures
        .iter()
        .filter(|figure| starts.iter().any(|start| figure.title.starts_with(start)))
        .collect();
    plot::bars(
        "In proportion to HAProxy (1.0): speeds, then delays and memory",
        &shown,
    )
}

/// Processor, versions and date.
fn machine() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let versions = [Kind::HaProxy, Kind::Nginx, Kind::Node].map(|kind| {
        let version = kind.version().unwrap_or_else(|reason| reason);
        format!("{} ({version})", kind.name())
    });
    format!(
        "Last run: {}, {}, {cores} cores, Linux {}, {}.",
        jiff::Timestamp::now().strftime("%Y-%m-%d"),
        processor.unwrap_or("unknown processor"),
        kernel.trim(),
        versions.join(", ")
    )
}
