//! Bytes that parsers read differently, through our proxy, nginx and HAProxy.
//!
//! Each case is followed by a whole request, the sentinel. Where a proxy thinks
//! that the case's message ends shows in what its upstream gets: the case, the
//! sentinel, both, or the sentinel as a part of the case's body.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;

use drawbridge_testkit::peers::Peer;
use drawbridge_testkit::{FAKE_KEY, PATIENCE, Upstream, requirement};

use crate::Test;
use crate::cases::{self, Case};
use crate::proxy;

pub(crate) const TESTS: &[Test] = &[(
    "class_09_nothing_passes_that_other_proxies_read_differently",
    class_09_nothing_passes_that_other_proxies_read_differently,
)];

/// Connections at one time; far fewer than any proxy allows one client.
const THREADS: usize = 24;

pub(crate) fn availability() -> Result<(), String> {
    requirement::program(Peer::Nginx.program())?;
    requirement::program(Peer::HaProxy.program()).map(drop)
}

fn class_09_nothing_passes_that_other_proxies_read_differently() {
    let cases = cases::all();
    let nginx = through_peer(Peer::Nginx, &cases);
    let haproxy = through_peer(Peer::HaProxy, &cases);
    let ours = through_ours(&cases);
    let mut wrong = Vec::new();
    let mut table = String::new();
    for (index, case) in cases.iter().enumerate() {
        let (nginx, haproxy, ours) = (&nginx[index], &haproxy[index], &ours[index]);
        table += &format!("| {} | {nginx} | {haproxy} | {ours} |\n", case.name);
        let is_safe = ours.has_refused() || (nginx == haproxy && ours == nginx);
        let is_useful = !case.is_plain || ours.0.len() == case.requests();
        if !is_safe || !is_useful {
            wrong.push(case.name);
        }
    }
    let head = "| case | nginx | HAProxy | Drawbridge |\n|---|---|---|---|\n";
    let _ = write!(std::io::stderr(), "{head}{table}");
    assert!(wrong.is_empty(), "{wrong:?}\n{head}{table}");
    let refused = |all: &[Passed]| all.iter().filter(|passed| passed.has_refused()).count();
    assert!(refused(&ours) >= refused(&nginx).max(refused(&haproxy)));
}

/// What an upstream got of a case: method, end of the path, length and text of
/// the body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Passed(Vec<(String, String, String)>);

impl Passed {
    /// Whether nothing of the case was passed on: neither a request of it nor
    /// bytes of it in the sentinel.
    fn has_refused(&self) -> bool {
        let is_sentinel = |(method, path, body): &(String, String, String)| {
            (method.as_str(), path.as_str(), body.as_str()) == ("GET", "sentinel", "")
        };
        self.0.iter().all(is_sentinel)
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("refused");
        }
        for (index, (method, path, body)) in self.0.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{method} {path}")?;
            if !body.is_empty() {
                write!(f, " + {} bytes", body.len())?;
            }
        }
        Ok(())
    }
}

fn through_peer(peer: Peer, cases: &[Case]) -> Vec<Passed> {
    let upstream = upstream();
    let running = peer.start(&upstream);
    send_all(running.address, cases);
    passed(&upstream, cases)
}

fn through_ours(cases: &[Case]) -> Vec<Passed> {
    let upstream = upstream();
    let configuration = format!(
        "[proxy]\nclient-auth = \"placeholder\"\n\
         deadlines = {{ head = \"1s\", keep-alive = \"1s\", idle = \"1s\" }}\n\
         [[route]]\nname = \"all\"\npreset = \"generic\"\nupstream = \"{}\"\n\
         injection = \"bearer\"\nallow = [\"GET,POST /**\"]\n\
         credential = {{ source = \"environment\", variable = \"KEY\" }}\n",
        upstream.url()
    );
    let proxy = proxy::start(&configuration, &[("KEY", FAKE_KEY)]);
    send_all(proxy.address, cases);
    passed(&upstream, cases)
}

fn upstream() -> Upstream {
    Upstream::start(|_, exchange| exchange.respond(200, &[], "ok"))
}

fn send_all(address: SocketAddr, cases: &[Case]) {
    let next = Mutex::new(cases.iter().enumerate());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let Some((index, case)) = next.lock().unwrap().next() else {
                        break;
                    };
                    send(address, &case.bytes(index));
                }
            });
        }
    });
}

/// Sends bytes and reads until the proxy closes the connection.
fn send(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(bytes);
    let mut answers = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answers) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "no end");
    }
}

fn passed(upstream: &Upstream, cases: &[Case]) -> Vec<Passed> {
    let requests = upstream.requests();
    let of_case = |index: usize| {
        let mark = cases::mark(index);
        let own = requests.iter().filter(|r| r.target.contains(&mark));
        let passed = own.map(|request| {
            let (_, path) = request.target.split_once(&mark).unwrap();
            let body = String::from_utf8_lossy(&request.body).into_owned();
            (request.method.clone(), path.to_owned(), body)
        });
        Passed(passed.collect())
    };
    (0..cases.len()).map(of_case).collect()
}
