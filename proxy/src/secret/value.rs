//! The one type that holds a credential, and the only module that reads it.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::base::percent;
use crate::scrub::Patterns;

/// Longest credential, in bytes. Upstreams commonly refuse a request head of
/// more than 16 KiB.
const MAX_BYTES: usize = 12 * 1024;

/// A credential as it goes upstream: an API key, an access token, a password.
///
/// It is checked when it is made, so it can be put into a header as it is. It
/// cannot be printed, and its memory is cleared when the last clone is dropped,
/// that of the header values made from it included. Clones share one value and
/// are cheap.
#[derive(Clone)]
pub struct Secret {
    shared: Arc<Shared>,
}

struct Shared {
    value: SecretString,
    header: HeaderValue,
    bearer: HeaderValue,
    patterns: Patterns,
    account: Option<HeaderValue>,
}

/// Why a text is not accepted as a credential. It never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It would add lines or bytes of its own to a request head.
    #[error("character {position} is not a printable ASCII character")]
    Unprintable {
        /// Where, counted in bytes from 1.
        position: usize,
    },
    /// It starts or ends with a space, which headers do not carry.
    #[error("it starts or ends with a space")]
    OuterSpace,
    /// It does not fit into a request head.
    #[error("it is {0} bytes long, more than the {MAX_BYTES} that fit into a request head")]
    TooLong(usize),
}

impl Secret {
    /// Checks and takes a credential.
    ///
    /// # Errors
    /// The text is empty, longer than 12 KiB, has an outer space, or has a
    /// character other than printable ASCII.
    pub fn new(text: &str) -> Result<Self, InvalidSecret> {
        check(text)?;
        let patterns = Patterns::of_secrets([text.as_bytes()])
            .map_err(|_too_many_patterns| InvalidSecret::TooLong(text.len()))?;
        let shared = Shared {
            header: header_value(text.as_bytes().to_vec())?,
            bearer: header_value([b"Bearer ", text.as_bytes()].concat())?,
            value: SecretString::from(text),
            patterns,
            account: None,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Takes a credential from a file's or a program's whole output, of which
    /// the line end is not a part.
    ///
    /// # Errors
    /// As [`Secret::new`]; a second line is an unprintable character.
    pub fn from_output(output: &[u8]) -> Result<Self, InvalidSecret> {
        let line = output.strip_suffix(b"\n").unwrap_or(output);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match std::str::from_utf8(line) {
            Ok(text) => Self::new(text),
            Err(error) => Err(InvalidSecret::Unprintable {
                position: error.valid_up_to() + 1,
            }),
        }
    }

    /// This value with the account that the upstream wants to know.
    pub(crate) fn with_account(self, account: Option<HeaderValue>) -> Self {
        let shared = Shared {
            value: self.shared.value.clone(),
            header: self.header(),
            bearer: self.bearer(),
            patterns: self.patterns().clone(),
            account,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The account that the upstream has to be told of beside the value:
    /// `chatgpt-account-id` for a Codex login.
    #[must_use]
    pub fn account(&self) -> Option<&HeaderValue> {
        self.shared.account.as_ref()
    }

    /// The bare value, for a header such as `x-api-key`; marked sensitive.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.shared.header.clone()
    }

    /// `Bearer VALUE`, for `authorization`; marked sensitive.
    #[must_use]
    pub fn bearer(&self) -> HeaderValue {
        self.shared.bearer.clone()
    }

    /// `Basic BASE64(user:VALUE)`, for `authorization`; marked sensitive.
    ///
    /// # Errors
    /// The pair does not fit into a request head.
    pub fn basic(&self, user: &str) -> Result<HeaderValue, InvalidSecret> {
        let pair = Zeroizing::new([user.as_bytes(), b":", self.bytes()].concat());
        let mut header = b"Basic ".to_vec();
        header.extend_from_slice(Zeroizing::new(STANDARD.encode(&*pair)).as_bytes());
        header_value(header)
    }

    /// The value percent-encoded for a query: all but RFC 3986's unreserved
    /// characters.
    #[must_use]
    pub fn query(&self) -> Zeroizing<String> {
        // With room for all, the text never moves and leaves no copy behind.
        let mut encoded = Zeroizing::new(String::with_capacity(self.bytes().len() * 3));
        encoded.extend(percent::encode(self.bytes()));
        encoded
    }

    /// Texts to remove from answers: the value in every form of
    /// `scrub::forms`. Made once, at load.
    #[must_use]
    pub fn patterns(&self) -> &Patterns {
        &self.shared.patterns
    }

    /// The value in the forms in which an upstream may echo it; the raw one
    /// comes first.
    #[must_use]
    pub fn forms(&self) -> Vec<Zeroizing<Vec<u8>>> {
        crate::scrub::forms(self.bytes())
    }

    /// The value itself, for the modules that write login files, form token
    /// requests and read the expiry of a token.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads secrets"
    )]
    pub(crate) fn text(&self) -> &str {
        self.shared.value.expose_secret()
    }

    fn bytes(&self) -> &[u8] {
        self.text().as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([REDACTED])")
    }
}

/// Same value, compared in constant time.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) || self.bytes().ct_eq(other.bytes()).into()
    }
}

impl Eq for Secret {}

fn check(text: &str) -> Result<(), InvalidSecret> {
    if text.is_empty() {
        return Err(InvalidSecret::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(InvalidSecret::TooLong(text.len()));
    }
    let unprintable = |byte: u8| !(byte.is_ascii_graphic() || byte == b' ');
    if let Some(at) = text.bytes().position(unprintable) {
        return Err(InvalidSecret::Unprintable { position: at + 1 });
    }
    if text.trim().len() != text.len() {
        return Err(InvalidSecret::OuterSpace);
    }
    Ok(())
}

/// A header value whose memory is cleared when its last clone is dropped.
fn header_value(bytes: Vec<u8>) -> Result<HeaderValue, InvalidSecret> {
    let length = bytes.len();
    let bytes = Bytes::from_owner(Zeroizing::new(bytes));
    let mut value = HeaderValue::from_maybe_shared(bytes)
        .map_err(|_not_a_header_value| InvalidSecret::TooLong(length))?;
    value.set_sensitive(true);
    Ok(value)
}
