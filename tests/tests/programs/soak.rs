//! Thousands of event streams that end, stall, break off and are aborted, while
//! keys change, configurations are reloaded and sessions come and go.
//!
//! Here it is a short run. The long one is by hand:
//!
//! ```text
//! DRAWBRIDGE_SOAK=600 DRAWBRIDGE_SOAK_STREAMS=2000 \
//!     cargo test --release -p drawbridge-tests --test programs -- soak
//! ```

mod client;
mod upstream;

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use drawbridge_tests::{Canary, eventually};
use rustix::process::{Resource, Signal, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Test;
use crate::proxy::Proxy;
use client::Shared;

pub(crate) const TESTS: &[Test] = &[("what_is_taken_is_given_back", what_is_taken_is_given_back)];

/// The keys that take turns.
const KEYS: [&str; 2] = [
    "sk-ant-fake-CANARY-soak-one-0123456789",
    "sk-ant-fake-CANARY-soak-two-9876543210",
];

/// How often something of the proxy is changed.
const CYCLE: Duration = Duration::from_millis(1500);

/// How much more memory may be resident at the end than after the warm-up: what
/// the allocator keeps grows for some minutes, less and less. A request that
/// left a kilobyte behind would be far beyond it.
const fn with_slack(warm_kb: u64) -> u64 {
    warm_kb + warm_kb / 10 + 6 * 1024
}

fn setting(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |value| value.parse().unwrap())
}

fn what_is_taken_is_given_back() {
    let streams = setting("DRAWBRIDGE_SOAK_STREAMS", 200);
    let time = Duration::from_secs(setting("DRAWBRIDGE_SOAK", 10));
    raise_descriptor_limit();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let upstream = runtime.block_on(upstream::start());
    let soak = Soak::start(upstream);
    let fresh = soak.usage();
    soak.load(&runtime, streams, time.min(Duration::from_secs(60)));
    let warm = soak.wait_until_idle(fresh.sockets, usize::MAX);
    let report = soak.load(&runtime, streams, time);
    report.shared.assert_all_was_there();
    let end = soak.wait_until_idle(fresh.sockets, warm.descriptors);
    let (shared, peak) = (&report.shared, report.peak);
    let _ = writeln!(
        std::io::stderr(),
        "{streams} streams for {time:?}: {shared}\n\
         fresh {fresh:?}\nwarm  {warm:?}\npeak  {peak:?}\nend   {end:?}"
    );
    assert!(
        end.resident_kb <= with_slack(warm.resident_kb),
        "{warm:?} {end:?}"
    );
    soak.assert_no_key_is_told();
}

/// What the proxy's process holds.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    sockets: usize,
    descriptors: usize,
    resident_kb: u64,
}

/// What happened under load, and the most that the proxy held meanwhile.
struct Report {
    shared: Arc<Shared>,
    peak: Usage,
}

struct Soak {
    proxy: Proxy,
    upstream: SocketAddr,
}

impl Soak {
    fn start(upstream: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_key(folder.path(), 0);
        let proxy = Proxy::start_in(folder, &configuration(upstream), &[]);
        proxy.program.wait_for_err("the admin socket", |err| {
            err.contains("admin socket is").then_some(())
        });
        Self { proxy, upstream }
    }

    fn usage(&self) -> Usage {
        let process = format!("/proc/{}", self.proxy.program.id());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.split_whitespace().next());
        let open = fs::read_dir(format!("{process}/fd")).unwrap();
        let open = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        let open: Vec<_> = open.map(|target| target.display().to_string()).collect();
        let sockets = open.iter().filter(|target| target.starts_with("socket:"));
        Usage {
            sockets: sockets.count(),
            descriptors: open.len(),
            resident_kb: resident.unwrap().parse().unwrap(),
        }
    }

    /// Loads the proxy for a time, and returns what happened.
    fn load(&self, runtime: &tokio::runtime::Runtime, streams: u64, time: Duration) -> Report {
        let shared = Arc::new(Shared::new(self.proxy.address, self.proxy.token(), &KEYS));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        for number in 0..streams {
            let client = client::run(number, Arc::clone(&shared), stop.clone());
            tasks.spawn_on(client, runtime.handle());
        }
        tasks.close();
        let peak = self.change_things_for(time, &shared);
        // All streams at once are left in the middle.
        stop.cancel();
        runtime.block_on(tasks.wait());
        shared.assert_nothing_went_wrong();
        Report { shared, peak }
    }

    /// Changes keys, configuration and sessions, and returns the most that the
    /// proxy held meanwhile.
    fn change_things_for(&self, time: Duration, shared: &Shared) -> Usage {
        let (begin, mut peak) = (Instant::now(), Usage::default());
        let mut tokens = Vec::new();
        for cycle in 0.. {
            std::thread::park_timeout(CYCLE.min(time.saturating_sub(begin.elapsed())));
            if begin.elapsed() >= time {
                break;
            }
            write_key(&self.proxy.path(""), cycle);
            let text = match cycle % 5 {
                4 => "[[route]]\npreset = \"nobody's\"\n".to_owned(),
                _ => configuration(self.upstream),
            };
            fs::write(self.proxy.path("drawbridge.toml"), text).unwrap();
            self.proxy.program.signal(Signal::HUP);
            tokens.push(shared.replace_token(self.proxy.token()));
            if tokens.len() > 2 {
                let token = tokens.remove(0);
                let id = &token["dbs_".len()..][..16];
                self.proxy.admin(&["session", "revoke", id]);
            }
            let now = self.usage();
            peak.sockets = peak.sockets.max(now.sockets);
            peak.descriptors = peak.descriptors.max(now.descriptors);
            peak.resident_kb = peak.resident_kb.max(now.resident_kb);
        }
        peak
    }

    /// Waits until nothing is in flight and no more is open than there was. At
    /// first only sockets count, for files are opened when they are needed.
    fn wait_until_idle(&self, sockets: usize, descriptors: usize) -> Usage {
        eventually("all requests to end", || {
            let sessions = self.proxy.admin(&["session", "list"]);
            let sessions = sessions["sessions"].as_array().unwrap();
            let is_idle = sessions.iter().all(|session| session["in_flight"] == 0);
            is_idle.then_some(())
        });
        eventually("connections to be closed", || {
            let usage = self.usage();
            let is_back = usage.sockets <= sockets && usage.descriptors <= descriptors;
            is_back.then_some(usage)
        })
    }

    fn assert_no_key_is_told(&self) {
        let log = self.proxy.program.err();
        let audit = fs::read(self.proxy.path("audit.jsonl")).unwrap();
        assert!(!log.is_empty() && !audit.is_empty());
        for key in KEYS {
            Canary::new(key).assert_absent("the log", &log);
            Canary::new(key).assert_absent("the audit file", &audit);
        }
    }
}

fn configuration(upstream: SocketAddr) -> String {
    format!(
        "[proxy]\naudit = {{ path = \"audit.jsonl\" }}\n\
         deadlines = {{ first-byte = \"3s\", idle = \"4s\", idle-upstream = \"2s\" }}\n\
         limits = {{ connections = 10000, connections-per-client = 10000 }}\n\
         [[route]]\npreset = \"anthropic\"\nupstream = \"http://{upstream}\"\n\
         credential = {{ source = \"file\", path = \"key\" }}\n"
    )
}

/// In one step, as an editor or a secret manager does it.
fn write_key(folder: &Path, cycle: usize) {
    let new = folder.join("key.new");
    fs::write(&new, KEYS[cycle % KEYS.len()]).unwrap();
    fs::rename(new, folder.join("key")).unwrap();
}

/// Each stream takes two descriptors here and two in the proxy, which inherits
/// the limit.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}
