//! Connections to upstreams: opened to vetted addresses only, kept idle in a
//! small stack per worker thread, and never shared between routes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::body::RequestBody;

pub(crate) mod address;
pub(crate) mod connect;
pub(crate) mod tls;

pub use address::Reach;
use connect::{ConnectError, Connector};

/// Where a route's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    scheme: Scheme,
    host: String,
    port: u16,
    base_path: String,
    reach: Reach,
}

/// How an upstream is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Over TLS.
    Https,
    /// In clear text, on loopback only.
    Http,
}

/// Why a text is not the URL of an upstream.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidUpstream {
    /// The text is not an absolute URL of the accepted form.
    #[error("{0:?} is not a URL of the form https://HOST[:PORT][/PATH]")]
    NotAUrl(String),
    /// A key would travel in clear text through a network.
    #[error(
        "upstream {0:?} is in clear text and not on loopback\n\
         hint: use https, or an address such as http://127.0.0.1:8080"
    )]
    ClearText(String),
}

impl Upstream {
    /// Reads an upstream's URL. Its path is the base of all paths sent.
    ///
    /// A literal address in the URL was chosen by the operator, so it may be
    /// private; a name may lead to private addresses only if `allow_private`.
    ///
    /// # Errors
    /// The text is not such a URL, holds user name, query or fragment, or names
    /// another host than loopback in clear text.
    pub fn parse(url: &str, allow_private: bool) -> Result<Self, InvalidUpstream> {
        let invalid = || InvalidUpstream::NotAUrl(url.chars().take(200).collect());
        let uri: http::Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri.authority().ok_or_else(invalid)?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ => return Err(invalid()),
        };
        let base_path = uri.path().trim_end_matches('/').to_owned();
        let is_path_sound = base_path.is_empty()
            || base_path
                .parse()
                .is_ok_and(|path| crate::target::check(&path).is_ok());
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        if uri.query().is_some()
            || url.contains('#')
            || authority.as_str().contains('@')
            || !is_path_sound
            || !is_host(&host)
        {
            return Err(invalid());
        }
        let literal = literal_address(&host);
        let is_loopback = host == "localhost" || literal.is_some_and(|a| a.is_loopback());
        let reach = match (scheme, literal) {
            (Scheme::Http, _) if !is_loopback => {
                return Err(InvalidUpstream::ClearText(url.chars().take(200).collect()));
            }
            (Scheme::Http, _) => Reach::Loopback,
            (Scheme::Https, _) if is_loopback => Reach::Loopback,
            (Scheme::Https, Some(_)) => Reach::Private,
            (Scheme::Https, None) if allow_private => Reach::Private,
            (Scheme::Https, None) => Reach::Public,
        };
        let default_port = match scheme {
            Scheme::Https => 443,
            Scheme::Http => 80,
        };
        Ok(Self {
            port: uri.port_u16().unwrap_or(default_port),
            scheme,
            host,
            base_path,
            reach,
        })
    }

    /// The URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };
        format!("{scheme}://{}{}", self.authority(), self.base_path)
    }

    /// The host, in lower case; IPv6 addresses in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Host, and port unless it is the scheme's own: the value of `Host`.
    #[must_use]
    pub fn authority(&self) -> String {
        match (self.scheme, self.port) {
            (Scheme::Https, 443) | (Scheme::Http, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    pub(crate) fn host_header(&self) -> HeaderValue {
        // `is_host` admits nothing that a header value does not.
        HeaderValue::from_str(&self.authority()).unwrap_or(HeaderValue::from_static(""))
    }
}

/// A DNS name of letters, digits, dashes and dots, or a literal address. Trailing
/// dots, escapes, zone ids, international names in Unicode and numbers that some
/// resolvers read as addresses ("0x7f.1", "2130706433") are refused.
fn is_host(host: &str) -> bool {
    if literal_address(host).is_some() {
        return true;
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
        && last.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
}

fn literal_address(host: &str) -> Option<std::net::IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok().map(Into::into),
        None => host.parse::<std::net::Ipv4Addr>().ok().map(Into::into),
    }
}

/// The connections of one route on one worker thread.
#[derive(Debug)]
pub(crate) struct Pool {
    upstream: Arc<Upstream>,
    connector: Rc<Connector>,
    idle: RefCell<Vec<Idle>>,
    max_idle: usize,
    max_idle_time: Duration,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

#[derive(Debug)]
struct Connection {
    sender: http1::SendRequest<RequestBody>,
    driver: AbortHandle,
}

/// A connection in use for one request. Dropped before it is given back, it is
/// closed at once: what is left of the exchange must not reach anybody.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Option<Connection>,
    pool: Rc<Pool>,
    is_reused: bool,
}

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// No byte was sent, so the request can go to another connection.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    /// It may have reached the upstream.
    Sent(hyper::Error),
}

impl Pool {
    pub(crate) const fn new(
        upstream: Arc<Upstream>,
        connector: Rc<Connector>,
        max_idle: usize,
        max_idle_time: Duration,
    ) -> Self {
        Self {
            upstream,
            connector,
            idle: RefCell::new(Vec::new()),
            max_idle,
            max_idle_time,
        }
    }

    /// A connection that can take a request: the one used last, or a new one.
    pub(crate) async fn lease(self: &Rc<Self>) -> Result<Lease, ConnectError> {
        while let Some(mut connection) = self.pop() {
            if connection.sender.is_ready() || connection.sender.ready().await.is_ok() {
                return Ok(self.lend(connection, true));
            }
        }
        let io = self.connector.connect(&self.upstream).await?;
        let (sender, driver) = http1::handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Handshake)?;
        let driver = tokio::task::spawn_local(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        let driver = driver.abort_handle();
        Ok(self.lend(Connection { sender, driver }, false))
    }

    fn lend(self: &Rc<Self>, connection: Connection, is_reused: bool) -> Lease {
        Lease {
            connection: Some(connection),
            pool: Rc::clone(self),
            is_reused,
        }
    }

    fn pop(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, since }) = idle.pop() {
            if !connection.sender.is_closed() && since.elapsed() < self.max_idle_time {
                return Some(connection);
            }
            connection.driver.abort();
        }
        None
    }

    /// Closes connections that have been idle for too long or were closed by
    /// the upstream.
    pub(crate) fn prune(&self) {
        self.idle.borrow_mut().retain(|idle| {
            let is_good =
                !idle.connection.sender.is_closed() && idle.since.elapsed() < self.max_idle_time;
            if !is_good {
                idle.connection.driver.abort();
            }
            is_good
        });
    }
}

impl Lease {
    /// Whether the connection has carried a request before, so that it may have
    /// died meanwhile without anybody noticing.
    pub(crate) const fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        // Only `give_back` takes the connection, and it consumes the lease.
        let Some(connection) = &mut self.connection else {
            unreachable!("a lease holds its connection until it is given back")
        };
        let sent = connection.sender.try_send_request(request);
        sent.await.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::Unsent(Box::new(request), error.into_error()),
            None => SendError::Sent(error.into_error()),
        })
    }

    /// Puts the connection back for the next request.
    pub(crate) fn give_back(mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let mut idle = self.pool.idle.borrow_mut();
        if connection.sender.is_closed() || idle.len() >= self.pool.max_idle {
            connection.driver.abort();
            return;
        }
        let since = Instant::now();
        idle.push(Idle { connection, since });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.driver.abort();
        }
    }
}

#[cfg(test)]
mod tests;
