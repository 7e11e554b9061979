//! Identifiers, each with the rule that makes it safe where it is used.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not an identifier.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{kind} {text:?} is not valid: {rule}")]
pub struct InvalidId {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let is_valid: fn(&str) -> bool = $check;
                if is_valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    let text = text.chars().take(80).collect();
                    Err(InvalidId { kind: $kind, text, rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Name of one run: part of container names, labels and folders.
    RunId,
    "run id",
    "8 to 64 lower-case letters, digits and dashes",
    |text| (8..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);

id!(
    /// Folder name of a group, by NanoClaw's rule
    /// `^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$` and not `global`.
    GroupName,
    "group name",
    "1 to 64 letters, digits, '_' and '-', the first a letter or digit, and not \"global\"",
    |text| (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && text != "global"
);

id!(
    /// Random text known to the launcher and the runner only. With it in the
    /// markers, text that a tool prints cannot pass for a record.
    Nonce,
    "nonce",
    "32 lower-case hexadecimal digits",
    |text| text.len() == 32
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
);

id!(
    /// Session id of an agent's conversation, as the agent gave it. It becomes
    /// a command line value and may become a file name, so it cannot start with
    /// a dash or hold a path separator.
    AgentSessionId,
    "session id",
    "1 to 200 letters, digits, '_', '-', '.' and ':', the first a letter or digit",
    |text| (1..=200).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b))
);

impl RunId {
    /// A new random run id.
    ///
    /// # Errors
    /// The operating system has no random numbers to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        Ok(Self(format!("run-{}", random_hex::<8>()?)))
    }
}

impl Nonce {
    /// A new random nonce of 128 bits.
    ///
    /// # Errors
    /// The operating system has no random numbers to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        Ok(Self(random_hex::<16>()?))
    }
}

fn random_hex<const BYTES: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(hex(&bytes))
}

/// Bytes as lower-case hexadecimal digits. The text is allocated once, so that
/// growing leaves no copy of a secret behind.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0xf));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_follow_their_own_rule_and_differ() {
        let (a, b) = (RunId::random().unwrap(), RunId::random().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.as_str().parse::<RunId>().unwrap(), a);
        let nonce = Nonce::random().unwrap();
        assert_eq!(nonce.as_str().parse::<Nonce>().unwrap(), nonce);
    }

    #[test]
    fn hex_has_two_digits_for_each_byte() {
        assert_eq!(hex(&[0, 0x0f, 0xa5, 0xff]), "000fa5ff");
        assert_eq!(hex(&[]), "");
    }

    #[test]
    fn group_names_cannot_leave_their_folder() {
        for bad in [
            "",
            "global",
            "..",
            "a/b",
            "-rf",
            "_x",
            "a b",
            &"x".repeat(65),
        ] {
            bad.parse::<GroupName>().unwrap_err();
        }
        for good in ["a", "main", "Group_7-b", &"x".repeat(64)] {
            good.parse::<GroupName>().unwrap();
        }
    }

    #[test]
    fn session_ids_cannot_be_flags_or_paths() {
        for bad in ["", "-c", "../x", "a/b", "a b", "a\n"] {
            bad.parse::<AgentSessionId>().unwrap_err();
        }
        "3385aa4e-0000-4f6d-9e1a-000000000000"
            .parse::<AgentSessionId>()
            .unwrap();
    }

    #[test]
    fn the_error_names_kind_text_and_rule() {
        insta::assert_snapshot!(
            "a/b".parse::<GroupName>().unwrap_err(),
            @r#"group name "a/b" is not valid: 1 to 64 letters, digits, '_' and '-', the first a letter or digit, and not "global""#
        );
    }
}
