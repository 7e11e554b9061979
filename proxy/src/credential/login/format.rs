//! The login files of Claude Code and Codex, and our own, and how each one's
//! issuer is asked for new tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::document::{Document, DocumentError, secret, set};
use super::endpoint::Answer;
use crate::base::percent;
use crate::secret::Secret;

/// Vendor whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::credential) enum Format {
    /// Claude Code's `.credentials.json`.
    Claude,
    /// Codex's `auth.json`.
    Codex,
    /// A token answer of RFC 6749, section 5.1, as it is, with `expires_at` in
    /// Unix seconds in place of `expires_in`.
    Plain,
}

/// Content of an OAuth token file.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    pub(super) access: Option<Secret>,
    pub(super) refresh: Option<Secret>,
    pub(super) expires: Option<SystemTime>,
    /// The client the login was made for, when the file says so.
    pub(super) client_id: Option<String>,
    /// The scopes of the login, separated by spaces, when the file says so.
    pub(super) scope: Option<String>,
    /// The account, when the upstream has to be told of it.
    pub(super) account: Option<HeaderValue>,
}

impl Format {
    /// Where the tokens are in the file.
    const fn object(self) -> &'static str {
        match self {
            Self::Claude => "claudeAiOauth",
            Self::Codex => "tokens",
            Self::Plain => "",
        }
    }

    /// Names of the fields of access and refresh token.
    const fn fields(self) -> (&'static str, &'static str) {
        match self {
            Self::Claude => ("accessToken", "refreshToken"),
            Self::Codex | Self::Plain => ("access_token", "refresh_token"),
        }
    }

    pub(super) fn read(self, document: &Document) -> Result<Tokens, DocumentError> {
        if let Some(key) = self.api_key(document)? {
            return Ok(key);
        }
        let object = document.object(self.object())?;
        let (access_field, refresh_field) = self.fields();
        let access = secret(object, access_field)?;
        let refresh = secret(object, refresh_field)?;
        if access.is_none() && refresh.is_none() {
            return Err(DocumentError::NoToken(access_field));
        }
        let expires = match self {
            Self::Claude => time(object, "expiresAt", Duration::from_millis)?,
            Self::Plain => time(object, "expires_at", Duration::from_secs)?,
            Self::Codex => None,
        };
        let expires = expires.or_else(|| expiry_of_jwt(access.as_ref()?));
        let text = |field: &str| object.get(field).and_then(Value::as_str).map(str::to_owned);
        Ok(Tokens {
            access,
            refresh,
            expires,
            client_id: text("clientId"),
            scope: scopes(object),
            account: match self {
                Self::Codex => text("account_id").and_then(|id| id.try_into().ok()),
                Self::Claude | Self::Plain => None,
            },
        })
    }

    /// Codex keeps an API key in the same file when it is used with one.
    fn api_key(self, document: &Document) -> Result<Option<Tokens>, DocumentError> {
        if self != Self::Codex || document.object("tokens").is_ok() {
            return Ok(None);
        }
        let key = secret(document.object("")?, "OPENAI_API_KEY")?;
        Ok(key.map(|key| Tokens {
            access: Some(key),
            refresh: None,
            expires: None,
            client_id: None,
            scope: None,
            account: None,
        }))
    }

    /// Puts new tokens in the place of the old ones.
    pub(super) fn update(
        self,
        document: &mut Document,
        answer: &Answer,
        now: SystemTime,
    ) -> Result<(), DocumentError> {
        let (access_field, refresh_field) = self.fields();
        let expires = answer.expires_in.and_then(|after| now.checked_add(after));
        let since_epoch = expires.and_then(|end| end.duration_since(UNIX_EPOCH).ok());
        let object = document.object_mut(self.object())?;
        set(object, access_field, answer.access.text());
        if let Some(refresh) = &answer.refresh {
            set(object, refresh_field, refresh.text());
        }
        match self {
            Self::Claude => {
                let millis = since_epoch.and_then(|t| u64::try_from(t.as_millis()).ok());
                set(object, "expiresAt", millis);
                if let Some(scope) = &answer.scope {
                    let scopes: Vec<_> = scope.split_whitespace().collect();
                    set(object, "scopes", json!(scopes));
                }
            }
            Self::Plain => set(object, "expires_at", since_epoch.map(|t| t.as_secs())),
            Self::Codex => {
                if let Some(id_token) = &answer.id_token {
                    set(object, "id_token", id_token.text());
                }
                let whole = document.object_mut("")?;
                set(whole, "last_refresh", rfc3339(now));
            }
        }
        Ok(())
    }

    /// The request for new tokens: its content type and body. The vendors'
    /// own programs send JSON, RFC 6749 says a form.
    pub(super) fn request(
        self,
        refresh: &Secret,
        client: &Client<'_>,
    ) -> (&'static str, Zeroizing<Vec<u8>>) {
        let mut fields = vec![
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.text()),
            ("client_id", client.id),
        ];
        fields.extend(client.scope.map(|scope| ("scope", scope)));
        fields.extend(client.secret.map(|secret| ("client_secret", secret.text())));
        match self {
            Self::Claude | Self::Codex => ("application/json", json_object(&fields)),
            Self::Plain => ("application/x-www-form-urlencoded", form(&fields)),
        }
    }
}

/// As whom new tokens are asked for.
#[derive(Debug)]
pub(super) struct Client<'a> {
    pub(super) id: &'a str,
    pub(super) secret: Option<&'a Secret>,
    pub(super) scope: Option<&'a str>,
}

/// When a token that is a JSON web token ends, by its `exp` claim. The
/// signature is the upstream's to check.
pub(super) fn expiry_of_jwt(token: &Secret) -> Option<SystemTime> {
    let payload = token.text().split('.').nth(1)?;
    let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    let claims = Document::parse(&payload).ok()?;
    let seconds = claims.object("").ok()?.get("exp")?.as_u64()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn time(
    object: &Map<String, Value>,
    field: &'static str,
    unit: impl Fn(u64) -> Duration,
) -> Result<Option<SystemTime>, DocumentError> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let count = value.as_u64().ok_or(DocumentError::BadTime(field))?;
            let time = UNIX_EPOCH.checked_add(unit(count));
            time.map(Some).ok_or(DocumentError::BadTime(field))
        }
    }
}

/// Claude Code writes a list, RFC 6749 a text.
fn scopes(object: &Map<String, Value>) -> Option<String> {
    if let Some(list) = object.get("scopes").and_then(Value::as_array) {
        let scopes: Vec<_> = list.iter().filter_map(Value::as_str).collect();
        return (!scopes.is_empty()).then(|| scopes.join(" "));
    }
    object
        .get("scope")
        .and_then(Value::as_str)
        .map(str::to_owned)
}

fn rfc3339(time: SystemTime) -> Option<String> {
    jiff::Timestamp::try_from(time)
        .ok()
        .map(|time| time.to_string())
}

/// Written by hand, as a serialiser's buffers are not cleared.
fn json_object(fields: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let mut body = buffer(fields);
    for (index, (name, value)) in fields.iter().enumerate() {
        body.extend_from_slice(if index == 0 { b"{\"" } else { b",\"" });
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(b"\":\"");
        for byte in value.bytes() {
            match byte {
                b'"' | b'\\' => body.extend_from_slice(&[b'\\', byte]),
                // Secrets are printable; client id and scope come from files.
                0..0x20 => body.push(b' '),
                _ => body.push(byte),
            }
        }
        body.push(b'"');
    }
    body.push(b'}');
    body
}

fn form(fields: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let mut body = buffer(fields);
    for (index, (name, value)) in fields.iter().enumerate() {
        if index > 0 {
            body.push(b'&');
        }
        body.extend_from_slice(name.as_bytes());
        body.push(b'=');
        for piece in percent::encode(value.as_bytes()) {
            body.extend_from_slice(piece.as_bytes());
        }
    }
    body
}

/// With room for every field, however it is escaped: no copy is left behind in
/// a buffer that grew.
fn buffer(fields: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let lengths = fields
        .iter()
        .map(|(name, value)| name.len() + value.len() * 3 + 8);
    Zeroizing::new(Vec::with_capacity(lengths.sum()))
}
