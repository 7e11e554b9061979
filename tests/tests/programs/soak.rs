//! Thousands of event streams that end, stall, break off and are aborted, while
//! keys change, configurations are reloaded and sessions come and go.
//!
//! Here it is a short run. `tests/run.sh --long` has the long one:
//!
//! ```text
//! DRAWBRIDGE_SOAK=600 DRAWBRIDGE_SOAK_STREAMS=2000 DRAWBRIDGE_SOAK_PAUSE=200 \
//!     cargo test --release -p drawbridge-tests --test programs -- soak
//! ```

mod client;
mod upstream;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use drawbridge_testkit::{Canary, HEAP_SOCKET, PATIENCE, ProxyProgram, eventually};
use rustix::process::{Resource, Signal, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Test;
use crate::proxy;
use client::Shared;

pub(crate) const TESTS: &[Test] = &[("what_is_taken_is_given_back", what_is_taken_is_given_back)];

/// The keys that take turns.
const KEYS: [&str; 2] = [
    "sk-ant-fake-CANARY-soak-one-0123456789",
    "sk-ant-fake-CANARY-soak-two-9876543210",
];

/// The socket on which the proxy tells how much of its heap is in use.
const HEAP: &str = "heap.sock";

/// How often something of the proxy is changed.
const CYCLE: Duration = Duration::from_millis(1500);

/// How much more of the heap may be in use at the end than after the warm-up:
/// tables that have grown, sessions that are still there. With the four thousand
/// requests of the short run, one that left 16 bytes behind would be beyond it.
const IN_USE_SLACK: usize = 64 * 1024;

/// The most that may be resident at the end, beside what was before: what is kept
/// is nearly all free, for the allocator returns little of what the streams took.
/// How much more it keeps than was ever in use at once depends on how streams
/// happen to meet, and grows less and less; so this tells of no leak, but that
/// what is kept has an end.
const fn most_resident_kb(fresh: &Usage, peak: &Usage) -> u64 {
    fresh.resident_kb + peak.in_use as u64 / 1024 * 5 / 4
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
    let soak = Soak::start(upstream, setting("DRAWBRIDGE_SOAK_PAUSE", 20));
    let fresh = soak.usage();
    soak.load(&runtime, streams, time.min(Duration::from_secs(60)));
    let warm = soak.wait_until_idle(Usage {
        sockets: fresh.sockets,
        ..Usage::MOST
    });
    let report = soak.load(&runtime, streams, time);
    report.shared.assert_all_was_there();
    let end = soak.wait_until_idle(Usage {
        sockets: fresh.sockets,
        descriptors: warm.descriptors,
        in_use: warm.in_use + IN_USE_SLACK,
        resident_kb: most_resident_kb(&fresh, &report.peak),
    });
    let (shared, peak) = (&report.shared, report.peak);
    let _ = writeln!(
        std::io::stderr(),
        "{streams} streams for {time:?}: {shared}\n\
         fresh {fresh:?}\nwarm  {warm:?}\npeak  {peak:?}\nend   {end:?}"
    );
    soak.assert_no_key_is_told();
}

/// What the proxy's process holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    sockets: usize,
    descriptors: usize,
    /// Bytes of the heap.
    in_use: usize,
    /// Without what is read from files, the program itself above all.
    resident_kb: u64,
}

impl Usage {
    const MOST: Self = Self {
        sockets: usize::MAX,
        descriptors: usize::MAX,
        in_use: usize::MAX,
        resident_kb: u64::MAX,
    };

    fn is_within(&self, most: &Self) -> bool {
        self.sockets <= most.sockets
            && self.descriptors <= most.descriptors
            && self.in_use <= most.in_use
            && self.resident_kb <= most.resident_kb
    }
}

/// What happened under load, and the most that the proxy held meanwhile.
struct Report {
    shared: Arc<Shared>,
    peak: Usage,
}

struct Soak {
    proxy: ProxyProgram,
    upstream: SocketAddr,
    /// The shortest time between two events, in milliseconds.
    pause: u64,
}

impl Soak {
    fn start(upstream: SocketAddr, pause: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_key(folder.path(), 0);
        let heap = folder.path().join(HEAP);
        let variables = [(HEAP_SOCKET, heap.to_str().unwrap())];
        let proxy = proxy::start_in(folder, &configuration(upstream), &variables);
        // From then on no more sockets are opened for itself.
        proxy.program.wait_for_err("the admin socket", |err| {
            err.contains("admin socket is").then_some(())
        });
        Self {
            proxy,
            upstream,
            pause,
        }
    }

    fn usage(&self) -> Usage {
        let process = format!("/proc/{}", self.proxy.program.id());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let resident = resident.and_then(|text| text.split_whitespace().next());
        let open = fs::read_dir(format!("{process}/fd")).unwrap();
        let open = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        let open: Vec<_> = open.map(|target| target.display().to_string()).collect();
        let sockets = open.iter().filter(|target| target.starts_with("socket:"));
        Usage {
            sockets: sockets.count(),
            descriptors: open.len(),
            in_use: self.in_use(),
            resident_kb: resident.unwrap().parse().unwrap(),
        }
    }

    fn in_use(&self) -> usize {
        let mut told = String::new();
        let heap = UnixStream::connect(self.proxy.path(HEAP));
        heap.unwrap().read_to_string(&mut told).unwrap();
        told.parse().unwrap()
    }

    /// Loads the proxy for a time, and returns what happened.
    fn load(&self, runtime: &tokio::runtime::Runtime, streams: u64, time: Duration) -> Report {
        let shared = Arc::new(Shared::new(
            self.proxy.address,
            self.proxy.token(),
            &KEYS,
            self.pause,
        ));
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
                let _ = self.proxy.admin(&["session", "revoke", id]);
            }
            let now = self.usage();
            peak.sockets = peak.sockets.max(now.sockets);
            peak.descriptors = peak.descriptors.max(now.descriptors);
            peak.in_use = peak.in_use.max(now.in_use);
            peak.resident_kb = peak.resident_kb.max(now.resident_kb);
        }
        peak
    }

    /// Waits until nothing is in flight and no more is held than this.
    fn wait_until_idle(&self, most: Usage) -> Usage {
        eventually("all requests to end", || {
            let sessions = self.proxy.admin(&["session", "list"]);
            let sessions = sessions["sessions"].as_array().unwrap();
            let is_idle = sessions.iter().all(|session| session["in_flight"] == 0);
            is_idle.then_some(())
        });
        let deadline = Instant::now() + PATIENCE;
        loop {
            let usage = self.usage();
            if usage.is_within(&most) {
                return usage;
            }
            assert!(Instant::now() < deadline, "{usage:?} is over {most:?}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
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
