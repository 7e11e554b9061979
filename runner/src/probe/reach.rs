//! Attempts to get out of the container, each with a deadline of one second.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use drawbridge_shared::protocol::{ProxyAccess, ProxyEndpoint};
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

use super::kernel;
use super::{Attempt, ProbeArgs, ProxyAnswer};

const DEADLINE: Duration = Duration::from_secs(1);
/// Cloud providers serve instance credentials here.
const METADATA: &str = "169.254.169.254:80";
/// Reserved for documentation: no packet to them arrives anywhere.
const OUTSIDE_V4: &str = "198.51.100.1:9";
const OUTSIDE_V6: &str = "[2001:db8::1]:9";

/// An attempt to get out of a container, by name.
pub(super) type EgressAttempt = (&'static str, fn() -> Attempt);

/// The attempts that have to fail in every container.
pub(super) const EGRESS_ATTEMPTS: [EgressAttempt; 6] = [
    ("dns", dns),
    ("icmp", icmp),
    ("raw-socket", raw_socket),
    ("route-ipv4", || route("0.0.0.0:0", OUTSIDE_V4)),
    ("route-ipv6", || route("[::]:0", OUTSIDE_V6)),
    ("metadata", || dial(METADATA)),
];

/// Makes all attempts, at the egress and at further targets, at the same time.
pub(super) fn attempts(
    egress_attempts: &[EgressAttempt],
    args: &ProbeArgs,
) -> BTreeMap<String, Attempt> {
    let writes = args
        .writes
        .iter()
        .map(|path| (format!("write {}", path.display()), open(path)));
    let mut attempts: BTreeMap<_, _> = writes.collect();
    let reached: Vec<_> = thread::scope(|scope| {
        let named = egress_attempts
            .iter()
            .map(|(name, attempt)| ((*name).to_owned(), scope.spawn(attempt)));
        let dialled = args
            .dials
            .iter()
            .map(|target| (format!("dial {target}"), scope.spawn(move || dial(target))));
        let threads: Vec<_> = named.chain(dialled).collect();
        threads
            .into_iter()
            .map(|(name, thread)| {
                let lost = |_| Attempt::Reached("the attempt itself failed".to_owned());
                (name, thread.join().unwrap_or_else(lost))
            })
            .collect()
    });
    attempts.extend(reached);
    attempts
}

/// Accepts connections for as long as a doctor's visit takes at most.
pub(super) fn be_reachable(port: u16) -> io::Result<()> {
    const VISIT: Duration = Duration::from_secs(60);
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port))?;
    // The kernel accepts for us; nobody has anything to say.
    thread::park_timeout(VISIT);
    drop(listener);
    Ok(())
}

/// Opens a file for appending, and leaves it as it is.
fn open(path: &Path) -> Attempt {
    let opened = OpenOptions::new().append(true).open(path);
    Attempt::from_result(opened, |_| format!("{} can be written to", path.display()))
}

fn dial(target: &str) -> Attempt {
    Attempt::from_result(connect(target), |_| format!("connected to {target}"))
}

fn connect(target: &str) -> io::Result<TcpStream> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let address = target.to_socket_addrs()?.next().ok_or_else(unknown)?;
    TcpStream::connect_timeout(&address, DEADLINE)
}

/// Connecting a datagram socket asks the kernel for a route and sends nothing.
fn route(from: &str, to: &str) -> Attempt {
    let local = UdpSocket::bind(from).and_then(|socket| {
        socket.connect(to)?;
        socket.local_addr()
    });
    Attempt::from_result(local, |local| {
        format!("a route exists, from {}", local.ip())
    })
}

/// Asks each name server for a name that cannot exist; any answer counts.
fn dns() -> Attempt {
    let servers = kernel::name_servers(&kernel::read("/etc/resolv.conf"));
    let mut outcome = Attempt::Blocked("no name server is configured".to_owned());
    for server in servers {
        outcome = Attempt::from_result(query(&server), |()| format!("{server} answered"));
        if !outcome.is_blocked() {
            break;
        }
    }
    outcome
}

fn query(server: &str) -> io::Result<()> {
    // One question, recursion desired: drawbridge-probe.invalid, type A.
    let mut packet = vec![0xdb, 0x01, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [&b"drawbridge-probe"[..], b"invalid", b""] {
        packet.extend(u8::try_from(label.len()));
        packet.extend(label);
    }
    packet.extend([0, 1, 0, 1]);
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let server = SocketAddr::new(server.parse().map_err(invalid)?, 53);
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.connect(server)?;
    socket.send(&packet)?;
    socket.recv(&mut [0; 512]).map(drop)
}

fn icmp() -> Attempt {
    let sent = socket(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP))
        .map_err(io::Error::from)
        .and_then(|socket| {
            let socket = UdpSocket::from(socket);
            socket.send_to(&[8, 0, 0, 0, 0, 0, 0, 1], OUTSIDE_V4)
        });
    Attempt::from_result(sent, |_| "an echo request left".to_owned())
}

fn raw_socket() -> Attempt {
    let opened = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP));
    Attempt::from_result(opened, |_| "a raw socket was opened".to_owned())
}

/// Asks the proxy once without and once with the run's token. With it, the
/// request goes on to the upstream; the doctor's is a stand-in.
pub(super) fn ask_proxy(access: &ProxyAccess) -> ProxyAnswer {
    let ask = |token| status_of(&access.endpoint, token).map_err(|error| error.to_string());
    ProxyAnswer {
        without_token: ask(None),
        with_token: ask(Some(access.token.as_str())),
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn status_of(endpoint: &ProxyEndpoint, token: Option<&str>) -> io::Result<u16> {
    let (mut stream, prefix): (Box<dyn Stream>, &str) = match endpoint {
        ProxyEndpoint::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            (Box::new(stream), "")
        }
        ProxyEndpoint::Url(url) => {
            let (authority, prefix) = split_url(url)?;
            let stream = connect(authority)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            (Box::new(stream), prefix)
        }
    };
    let key = token.map_or_else(String::new, |token| format!("x-api-key: {token}\r\n"));
    let request = format!(
        "POST {prefix}/v1/messages HTTP/1.1\r\nhost: drawbridge\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: 2\r\n{key}\r\n{{}}"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let status = std::str::from_utf8(&head).ok().and_then(|head| {
        let code = head.strip_prefix("HTTP/1.")?.get(2..)?;
        code.parse().ok()
    });
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

/// The authority and the path of an `http://` URL.
fn split_url(url: &str) -> io::Result<(&str, &str)> {
    let rest = url.strip_prefix("http://").ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the proxy's URL is not http")
    })?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    Ok((authority, path.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_into_authority_and_path() {
        assert_eq!(split_url("http://h:1").unwrap(), ("h:1", ""));
        assert_eq!(split_url("http://h:1/a/").unwrap(), ("h:1", "/a"));
        split_url("https://h").unwrap_err();
    }

    #[test]
    fn the_status_is_read_from_either_kind_of_endpoint() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 512];
            let read = stream.read(&mut head).unwrap();
            stream
                .write_all(b"HTTP/1.1 401 Unauthorized\r\n\r\n")
                .unwrap();
            String::from_utf8(head[..read].to_vec()).unwrap()
        });
        let status = status_of(&ProxyEndpoint::Url(url), Some("tok")).unwrap();
        assert_eq!(status, 401);
        let head = server.join().unwrap();
        assert!(head.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("x-api-key: tok\r\n"), "{head}");
    }
}
