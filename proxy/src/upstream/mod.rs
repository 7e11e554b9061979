//! Connections to upstreams: opened to vetted addresses only, kept idle in a
//! small stack per worker thread, and never shared between routes.

use std::borrow::Cow;

use http::HeaderValue;

pub(crate) mod address;
pub(crate) mod connect;
mod driver;
mod outgoing;
mod pool;
mod request_body;
pub(crate) mod tls;

pub(crate) use address::Reach;
pub use outgoing::OutgoingProxy;
pub(crate) use pool::{Lease, Pool, SendError};
pub(crate) use request_body::{RequestBody, Upload, UploadGuard, UploadStage};

/// Where a route's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    scheme: Scheme,
    host: String,
    port: u16,
    base_path: String,
    reach: Reach,
}

/// The scheme of an upstream's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
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
    #[error("upstream {0:?} is in clear text and not on loopback")]
    ClearText(String),
}

impl InvalidUpstream {
    /// The fix, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::NotAUrl(_) => None,
            Self::ClearText(_) => {
                Some("use https, or an address such as http://127.0.0.1:8080".into())
            }
        }
    }
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
                .is_ok_and(|path| crate::base::path::check(&path).is_ok());
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

    /// Whether `Host` or an authority names this upstream, with or without the
    /// scheme's own port.
    pub(crate) fn has_authority(&self, named: &[u8]) -> bool {
        let Some(rest) = named.get(self.host.len()..) else {
            return false;
        };
        let is_host = named[..self.host.len()].eq_ignore_ascii_case(self.host.as_bytes());
        let port = match rest {
            [] => Some(match self.scheme {
                Scheme::Https => 443,
                Scheme::Http => 80,
            }),
            [b':', port @ ..] => std::str::from_utf8(port).ok().and_then(|p| p.parse().ok()),
            _ => None,
        };
        is_host && port == Some(self.port)
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

#[cfg(test)]
mod tests;
