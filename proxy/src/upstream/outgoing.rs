//! The HTTP proxy that a network may demand for its egress: `HTTPS_PROXY`, else
//! `ALL_PROXY`, and `NO_PROXY` for what goes directly.

use std::sync::Arc;

use http::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::connect::ConnectError;
use super::{is_host, literal_address};
use crate::base::headers::percent_decode;
use crate::base::network::Network;
use crate::secret::{Environment, Secret};

/// Variables that may name the proxy; the first one that is there counts, and
/// upstreams are spoken to in TLS.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Largest head of the answer to `CONNECT`.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The proxy of a network that lets nothing else out.
#[derive(Clone, Debug)]
pub struct OutgoingProxy {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
    direct: Vec<Exception>,
}

/// A destination that is reached directly: one entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Everything,
    /// A name and all below it.
    Domain(String),
    Network(Network),
}

impl OutgoingProxy {
    /// The proxy that the environment names, if it names one.
    ///
    /// # Errors
    /// The variable, and why its value is not the URL of an HTTP proxy. The text
    /// does not repeat the value, as it may hold a password.
    pub fn from_environment(env: &Environment) -> Result<Option<Self>, (&'static str, String)> {
        let set = |name| env.variable(name).map(|value| (name, value));
        let Some((name, url)) = VARIABLES.into_iter().find_map(set) else {
            return Ok(None);
        };
        let mut exempt = ["NO_PROXY", "no_proxy"].into_iter();
        let direct = exempt.find_map(|name| env.variable(name));
        let proxy = Self::parse(url, direct.unwrap_or_default());
        proxy.map(Some).map_err(|problem| (name, problem))
    }

    fn parse(url: &str, direct: &str) -> Result<Self, String> {
        let invalid =
            || "it is not a URL of the form http://[USER:PASSWORD@]HOST[:PORT]".to_owned();
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => {
                return Err("proxies that are spoken to in TLS are not supported".to_owned());
            }
            Some(_) => return Err(invalid()),
            None => url,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, rest),
        };
        let authority: http::uri::Authority = authority.parse().map_err(|_| invalid())?;
        let host = authority.host().to_ascii_lowercase();
        if !is_host(&host) {
            return Err(invalid());
        }
        let shared = Shared {
            port: authority.port_u16().unwrap_or(80),
            host,
            authorization: user.map(authorization).transpose()?,
            direct: direct.split(',').filter_map(exception).collect(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Whether an upstream is reached through the proxy.
    pub(crate) fn applies_to(&self, host: &str) -> bool {
        !self.shared.direct.iter().any(|e| e.covers(host))
    }

    /// The proxy's own host and port.
    pub(crate) fn address(&self) -> (&str, u16) {
        (&self.shared.host, self.shared.port)
    }

    /// Has the proxy open a tunnel.
    pub(crate) async fn tunnel(
        &self,
        stream: &mut TcpStream,
        host: &str,
        port: u16,
    ) -> Result<(), ConnectError> {
        let failed = |source| ConnectError::Tunnel {
            proxy: self.shared.host.clone(),
            source,
        };
        let target = format!("{host}:{port}");
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
        if let Some(value) = &self.shared.authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await.map_err(failed)?;
        let head = read_head(stream).await.map_err(failed)?;
        let status = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        if head.starts_with(b"HTTP/1.") && status.len() == 3 && status[0] == b'2' {
            return Ok(());
        }
        Err(ConnectError::TunnelRefused {
            proxy: self.shared.host.clone(),
            status: String::from_utf8_lossy(status).chars().take(3).collect(),
        })
    }
}

/// Reads exactly one head: what follows belongs to the tunnel.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD_BYTES {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

/// `Basic` for `USER:PASSWORD`, whose escapes are decoded.
fn authorization(user: &str) -> Result<HeaderValue, String> {
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |text: &str| String::from_utf8(percent_decode(&text.replace('+', "%2B"))).ok();
    let unusable = || "its user name or password cannot be sent".to_owned();
    let password = decoded(password).ok_or_else(unusable)?;
    let secret = Secret::new(&password).map_err(|_| unusable())?;
    let user = decoded(user).ok_or_else(unusable)?;
    secret.basic(&user).map_err(|_| unusable())
}

fn exception(entry: &str) -> Option<Exception> {
    let entry = entry.trim().to_ascii_lowercase();
    if entry == "*" {
        return Some(Exception::Everything);
    }
    if let Ok(network) = entry.parse() {
        return Some(Exception::Network(network));
    }
    // A port after a name is accepted and not looked at.
    let name = entry
        .split(':')
        .next()?
        .trim_start_matches("*.")
        .trim_start_matches('.');
    (!name.is_empty()).then(|| Exception::Domain(name.to_owned()))
}

impl Exception {
    fn covers(&self, host: &str) -> bool {
        match (self, literal_address(host)) {
            (Self::Everything, _) => true,
            (Self::Domain(domain), None) => host
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            (Self::Network(network), Some(address)) => network.contains(address),
            (Self::Domain(_), Some(_)) | (Self::Network(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_names_domains_addresses_and_networks() {
        let direct = "localhost, .corp.example,*.other, 10.0.0.0/8,192.168.1.1,fd00::/8,";
        let proxy = OutgoingProxy::parse("http://proxy.corp:8080", direct).unwrap();
        for host in [
            "localhost",
            "corp.example",
            "git.corp.example",
            "a.other",
            "10.2.3.4",
            "192.168.1.1",
            "[fd12::1]",
        ] {
            assert!(!proxy.applies_to(host), "{host}");
        }
        for host in [
            "api.anthropic.com",
            "notcorp.example",
            "11.0.0.1",
            "192.168.1.2",
            "[fe80::1]",
        ] {
            assert!(proxy.applies_to(host), "{host}");
        }
        let never = OutgoingProxy::parse("proxy:3128", "*").unwrap();
        assert!(!never.applies_to("api.anthropic.com"));
        assert_eq!(never.address(), ("proxy", 3128));
    }

    #[test]
    fn class_22_a_proxys_password_is_not_shown() {
        let proxy = OutgoingProxy::parse("http://me:p%40ss-CANARY@proxy", "").unwrap();
        let sent = proxy.shared.authorization.as_ref().unwrap();
        assert_eq!(sent, "Basic bWU6cEBzcy1DQU5BUlk=");
        assert!(!format!("{proxy:?}").contains("CANARY"));
        assert!(!format!("{proxy:?}").contains("bWU6"));
        let error = OutgoingProxy::parse("socks5://me:CANARY@proxy", "").unwrap_err();
        assert!(!error.contains("CANARY"), "{error}");
    }
}
