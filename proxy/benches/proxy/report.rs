//! The measured figures as Markdown.

use std::fmt::Write as _;

use crate::Options;
use crate::micro::Pass;
use crate::peers::Kind;
use crate::plot;
use crate::stats::Series;

/// Which way a figure is better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
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

    /// A table of this figure, with the ratio to ours of each round. Of delays
    /// it is the part that the proxy adds which is compared.
    pub(crate) fn table(&self) -> String {
        let better = match self.better {
            Better::Higher => "more is better",
            Better::Lower => "less is better",
        };
        let direct = self.of(Kind::Direct).filter(|_| self.unit == "µs");
        let compared =
            |series: &Series| direct.map_or_else(|| series.clone(), |direct| series.less(direct));
        let added = if direct.is_some() { "| added " } else { "" };
        let rule = if direct.is_some() { "|---" } else { "" };
        let mut text = format!(
            "### {}\n\n| | {} ({better}) {added}| Drawbridge / it |\n|---|---|---{rule}|\n",
            self.title, self.unit
        );
        let ours = self.of(Kind::Ours).map(compared);
        for (kind, series) in self.values.iter().filter(|(_, series)| series.is_known()) {
            let series_added = compared(series);
            let added =
                direct.map_or_else(String::new, |_| format!(" {} |", series_added.spread()));
            let ratio = match &ours {
                Some(ours) if !matches!(kind, Kind::Ours | Kind::Direct) => {
                    ours.over(&series_added).spread().to_string()
                }
                _ => String::new(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} |{added} {ratio} |",
                kind.name(),
                series.spread()
            );
        }
        text.push('\n');
        text
    }
}

/// The whole page.
pub(crate) fn page(figures: &[Figure], passes: &[Pass], options: &Options) -> String {
    let mut text = format!(
        "# Performance of the credential proxy\n\n\
         Written by `cargo bench -p drawbridge-proxy --bench proxy -- --write`. {}\n\n\
         All proxies use one thread, check the client's token, remove its credentials and put the \
         real key in, before the same upstream, on the same machine, in the same run, in turn. \
         Drawbridge also scrubs the key from answers and reads token usage from them. Figures are \
         the median of {} rounds of {:.1} s each (least to largest); the ratios are taken within a \
         round. \"no proxy\" is the client talking to the upstream: what the bench itself could \
         do at most, and the latency to subtract.\n\n![Bar chart of the figures below](performance.svg)\n\n",
        machine(),
        options.rounds,
        options.time.as_secs_f64()
    );
    let speeds = |pass: &Pass| Series(pass.speeds.clone()).spread();
    for figure in figures {
        text.push_str(&figure.table());
    }
    text.push_str("### Passes over an answer's bytes\n\n| | GB/s |\n|---|---|\n");
    for pass in passes {
        let _ = writeln!(text, "| {} | {:.3} |", pass.name, speeds(pass));
    }
    text.push_str(
        "\nThe last row is why the proxy asks upstreams for `identity`, and refuses an answer that is \
         compressed anyway, rather than decoding it.\n",
    );
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
