//! The figures, one after the other, each over all proxies in turn.

use std::time::Duration;

use crate::Options;
use crate::load::{self, Streams, Way};
use crate::peers::{Kind, Peer};
use crate::report::{Better, Figure};
use crate::stats::Series;
use crate::upstream::Upstream;

/// Event streams at one time.
const MANY_STREAMS: usize = 1000;

/// All proxies, before an upstream in clear text and before one with TLS.
pub(crate) struct Suite {
    clear: Vec<Peer>,
    tls: Vec<Peer>,
    rounds: usize,
    time: Duration,
    figure: String,
    _folder: tempfile::TempDir,
}

/// One value per figure that one measurement gives.
type Values<const N: usize> = [f64; N];

impl Suite {
    pub(crate) fn new(
        upstream: Upstream,
        kinds: Vec<Kind>,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let start = |is_tls: bool| {
            let start = |kind: &Kind| {
                let name = format!("{}-{is_tls}", kind.name().replace(' ', "-"));
                Peer::start(*kind, &upstream, is_tls, &folder.path().join(name))
            };
            kinds.iter().map(start).collect::<anyhow::Result<Vec<_>>>()
        };
        Ok(Self {
            clear: start(false)?,
            tls: start(true)?,
            rounds: options.rounds,
            time: options.time,
            figure: options.figure.clone(),
            _folder: folder,
        })
    }

    pub(crate) async fn run(&self) -> anyhow::Result<Vec<Figure>> {
        let mut figures = vec![self.idle_memory()];
        for (peers, name) in [(&self.clear, "clear upstream"), (&self.tls, "TLS upstream")] {
            for connections in [1, 64] {
                figures.extend(self.requests(peers, name, connections).await?);
            }
        }
        figures.extend(self.connections().await?);
        for streams in [1, MANY_STREAMS] {
            figures.extend(self.events(streams).await?);
        }
        for (way, name) in [(Way::Up, "up"), (Way::Down, "down")] {
            figures.extend(self.large_body(way, name).await?);
        }
        Ok(figures)
    }

    /// Measures each proxy once per round.
    async fn measure<const N: usize>(
        &self,
        peers: &[Peer],
        figures: [(String, &'static str, Better); N],
        measure: impl AsyncFn(&Peer) -> anyhow::Result<Values<N>>,
    ) -> anyhow::Result<Vec<Figure>> {
        if !figures
            .iter()
            .any(|(title, ..)| title.contains(&self.figure))
        {
            return Ok(Vec::new());
        }
        eprintln!("{} ...", figures[0].0);
        let mut series: Vec<[Series; N]> = peers
            .iter()
            .map(|_| std::array::from_fn(|_| Series::default()))
            .collect();
        for round in 0..self.rounds {
            // Each round begins with another one, so that none is always first.
            for offset in 0..peers.len() {
                let index = (round + offset) % peers.len();
                let values = measure(&peers[index]).await.map_err(|error| {
                    error.context(format!("{}: {}", figures[0].0, peers[index].kind.name()))
                })?;
                for (series, value) in series[index].iter_mut().zip(values) {
                    series.0.push(value);
                }
            }
        }
        let figure =
            |(index, (title, unit, better)): (usize, (String, &'static str, Better))| Figure {
                title,
                unit,
                better,
                values: peers
                    .iter()
                    .zip(&series)
                    .map(|(p, s)| (p.kind, s[index].clone()))
                    .collect(),
            };
        Ok(figures.into_iter().enumerate().map(figure).collect())
    }

    async fn requests(
        &self,
        peers: &[Peer],
        upstream: &str,
        connections: usize,
    ) -> anyhow::Result<Vec<Figure>> {
        let title = |what: &str| format!("{what}, {connections} conn., {upstream}");
        let figures = [
            (title("Requests"), "requests/s", Better::Higher),
            (title("Processor time"), "µs per request", Better::Lower),
            (title("Latency p50"), "µs", Better::Lower),
            (title("Latency p99"), "µs", Better::Lower),
        ];
        self.measure(peers, figures, async |peer| {
            let before = peer.processor_time();
            let rate = load::requests(&peer.endpoint, connections, self.time).await?;
            Ok([
                rate.per_second,
                each(before, peer.processor_time(), rate.latencies.len()),
                rate.latencies.percentile(500),
                rate.latencies.percentile(990),
            ])
        })
        .await
    }

    async fn connections(&self) -> anyhow::Result<Vec<Figure>> {
        let figures = [(
            "New connections".to_owned(),
            "connections/s",
            Better::Higher,
        )];
        self.measure(&self.clear, figures, async |peer| {
            Ok([load::connections(&peer.endpoint, self.time)
                .await?
                .per_second])
        })
        .await
    }

    async fn events(&self, streams: usize) -> anyhow::Result<Vec<Figure>> {
        let title = |what: &str| format!("{what}, {streams} event streams");
        let figures = [
            (title("Event delay p50"), "µs", Better::Lower),
            (title("Event delay p99"), "µs", Better::Lower),
            (title("Processor time"), "µs per event", Better::Lower),
            (title("Resident memory"), "MB", Better::Lower),
        ];
        // One stream has few events, so it is listened to for longer.
        let time = if streams == 1 {
            self.time * 2
        } else {
            self.time
        };
        self.measure(&self.clear, figures, async |peer| {
            let open = Streams::open(&peer.endpoint, streams).await?;
            let memory = peer.memory().map_or(f64::NAN, |memory| memory.resident);
            let before = peer.processor_time();
            let delays = open.delays(time).await?;
            let processor = each(before, peer.processor_time(), delays.len());
            Ok([
                delays.percentile(500),
                delays.percentile(990),
                processor,
                memory,
            ])
        })
        .await
    }

    async fn large_body(&self, way: Way, name: &str) -> anyhow::Result<Vec<Figure>> {
        let figures = [
            (format!("32 MB {name}"), "MB/s", Better::Higher),
            (format!("Memory growth, 32 MB {name}"), "MB", Better::Lower),
        ];
        self.measure(&self.clear, figures, async |peer| {
            peer.reset_peak();
            let before = peer.memory();
            let speed = load::large_body(&peer.endpoint, way).await?;
            let growth = before.zip(peer.memory());
            let growth = growth.map_or(f64::NAN, |(before, after)| after.peak - before.resident);
            Ok([speed, growth])
        })
        .await
    }

    /// Before the first request.
    fn idle_memory(&self) -> Figure {
        let of = |peer: &Peer| {
            let memory = peer.memory().map_or(f64::NAN, |memory| memory.resident);
            (peer.kind, Series(vec![memory]))
        };
        Figure {
            title: "Resident memory, idle".to_owned(),
            unit: "MB",
            better: Better::Lower,
            values: self.clear.iter().map(of).collect(),
        }
    }
}

/// What each of `count` cost.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn each(before: Option<f64>, after: Option<f64>, count: usize) -> f64 {
    before
        .zip(after)
        .map_or(f64::NAN, |(before, after)| (after - before) / count as f64)
}
