//! What the values of settings may be.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use drawbridge_shared::protocol::AgentKind;

use crate::spec::{ByteSize, Protection};

/// Where agents run, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RuntimeChoice {
    Auto,
    Docker,
    Podman,
    Apple,
    Host,
}

/// What containers reach, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkChoice {
    Sealed,
    Bridge,
}

/// What is around an agent on the host, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SandboxChoice {
    /// Landlock, or no run at all.
    Landlock,
    /// Nothing.
    Off,
}

/// Gives an enum a fixed list of names, which is also its error message.
macro_rules! named {
    ($type:ty { $($name:literal => $value:expr),+ $(,)? }) => {
        impl Named for $type {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, $value)),+];
        }
    };
}

/// A choice among names.
pub(super) trait Named: Sized + Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];
}

named!(RuntimeChoice {
    "auto" => Self::Auto, "docker" => Self::Docker, "podman" => Self::Podman, "apple" => Self::Apple,
    "host" => Self::Host
});
named!(NetworkChoice { "sealed" => Self::Sealed, "bridge" => Self::Bridge });
named!(AgentKind {
    "claude" => Self::Claude, "builtin" => Self::Builtin, "codex" => Self::Codex,
    "opencode" => Self::Opencode, "gemini" => Self::Gemini, "acp" => Self::Acp,
    "command" => Self::Command
});
named!(SandboxChoice { "landlock" => Self::Landlock, "off" => Self::Off });
named!(bool { "true" => true, "false" => false });

pub(super) fn parse_named<T: Named>(text: &str) -> Result<T, String> {
    let found = T::NAMES.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    })
}

pub(super) fn parse_waived(text: &str) -> Result<Vec<Protection>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let find = |name: &str| {
        let mut known = Protection::NAMES.iter();
        known
            .find(|(known, _)| *known == name)
            .map(|(_, protection)| *protection)
    };
    let waived: Option<Vec<_>> = text.split(',').map(|name| find(name.trim())).collect();
    waived.ok_or_else(|| {
        let names = Protection::NAMES.map(|(name, _)| name).join(", ");
        format!("none, or a list of {names}")
    })
}

pub(super) fn parse<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|rule: T::Err| rule.to_string())
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a parse function")]
pub(super) fn parse_model(text: &str) -> Result<Option<String>, String> {
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

pub(super) fn parse_file_size(text: &str) -> Result<Option<ByteSize>, String> {
    if text == "none" {
        return Ok(None);
    }
    let size = parse(text).map_err(|rule| format!("{rule}, or \"none\""))?;
    Ok(Some(size))
}

pub(super) fn parse_pids(text: &str) -> Result<NonZeroU32, String> {
    let number: Option<NonZeroU32> = text.parse().ok();
    number
        .filter(|number| (16..=1_000_000).contains(&number.get()))
        .ok_or_else(|| "a number from 16 to 1000000".to_owned())
}

pub(super) fn parse_time_limit(text: &str) -> Result<Option<Duration>, String> {
    const RULE: &str = "a time from 1s to 30d, such as \"90s\", \"30m\" or \"2h\", or \"none\"";
    if text == "none" {
        return Ok(None);
    }
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        Some(b'd') => 86_400,
        _ => return Err(RULE.to_owned()),
    };
    let number: Option<u64> = text[..text.len() - 1].parse().ok();
    number
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| (1..=30 * 86_400).contains(seconds))
        .map(|seconds| Some(Duration::from_secs(seconds)))
        .ok_or_else(|| RULE.to_owned())
}
