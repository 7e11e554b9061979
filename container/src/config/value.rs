//! Parsers of the values of settings.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use drawbridge_shared::period;
use drawbridge_shared::protocol::AgentKind;

use crate::spec::{ByteSize, Protection};

/// Requested place in which agents run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuntimeChoice {
    Auto,
    Docker,
    Podman,
    Apple,
    Host,
}

/// Requested network of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkChoice {
    Sealed,
    Bridge,
}

/// Requested sandbox of an agent on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SandboxChoice {
    /// Landlock, or no run at all.
    Landlock,
    /// Nothing.
    Off,
}

/// One of the names of a choice.
pub(super) fn parse_choice<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let choices = T::value_variants().iter();
        let names =
            choices.filter_map(|choice| Some(choice.to_possible_value()?.get_name().to_owned()));
        format!("one of {}", names.collect::<Vec<_>>().join(", "))
    })
}

pub(super) fn parse_agent(text: &str) -> Result<AgentKind, String> {
    let found = AgentKind::ALL
        .into_iter()
        .find(|agent| agent.name() == text);
    found.ok_or_else(|| format!("one of {}", AgentKind::ALL.map(AgentKind::name).join(", ")))
}

pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "one of true, false".to_owned())
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
    const RANGE: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
    if text == "none" {
        return Ok(None);
    }
    let time = period::parse(text).filter(|time| RANGE.contains(time));
    time.map(Some).ok_or_else(|| RULE.to_owned())
}

/// A time of `serve`, which may be very short or very long.
pub(super) fn parse_period(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(3650 * 86_400);
    let time = period::parse(text).filter(|time| *time <= LONGEST);
    time.ok_or_else(|| "a time such as \"200ms\", \"90s\", \"30m\", \"2h\" or \"30d\"".to_owned())
}

/// A number that may not be zero.
pub(super) fn parse_count<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "a number from 1".to_owned())
}

pub(super) fn parse_capacity(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "a number from 0".to_owned())
}

/// The program that answers requests; `None` for nobody but the caller.
pub(super) fn parse_on_request(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "" => Err("a program, or \"none\"".to_owned()),
        "none" => Ok(None),
        program => Ok(Some(program.into())),
    }
}
