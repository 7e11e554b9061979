//! The settings of `serve`: `[serve]`, and flags of the same names.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use drawbridge_proxy::config::ConfigFile;

use super::key::ServeKey;
use super::layers::{Found, SERVE, Shown, in_table};
use super::value::{parse_count, parse_named, parse_on_request, parse_period, parse_room};
use crate::error::Result;

/// What the user typed on the command line of `serve`.
pub(crate) trait TypedServe {
    /// The value of `--key`, if it was given.
    fn typed(&self, key: ServeKey) -> Option<&str>;
}

/// Nothing was typed.
struct Untyped;

impl TypedServe for Untyped {
    fn typed(&self, _: ServeKey) -> Option<&str> {
        None
    }
}

/// How `serve` is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServeSettings {
    pub(crate) max_runs: NonZeroUsize,
    pub(crate) max_waiting_per_group: usize,
    pub(crate) max_waiting: usize,
    pub(crate) max_attempts: NonZeroU32,
    pub(crate) retry_delay: Duration,
    pub(crate) retry_agent_failures: bool,
    /// How long runs may take to end after a signal.
    pub(crate) drain: Duration,
    /// How long to remember what ended with a result.
    pub(crate) keep: Duration,
    /// Who answers requests, where that is not what runs are told otherwise.
    pub(crate) on_request: Option<String>,
}

impl ServeSettings {
    /// What the file says, and where each value comes from.
    pub(crate) fn of_file(file: Option<&ConfigFile>) -> Result<(Self, Vec<Shown>)> {
        Self::resolve(&Untyped, file)
    }

    /// Settles all settings; what was typed wins over the file.
    pub(crate) fn resolve(
        flags: &dyn TypedServe,
        file: Option<&ConfigFile>,
    ) -> Result<(Self, Vec<Shown>)> {
        let mut shown = Vec::new();
        let find = |key| find(flags, file, key);
        let mut get = |key: ServeKey, default: &str| {
            let found = match find(key)? {
                Some(found) => found,
                None => Found::of_serve(key.name(), None, default),
            };
            shown.push(found.shown_as(format!("serve.{}", key.name())));
            Ok(found)
        };
        let mut settings = Self {
            max_runs: get(ServeKey::MaxRuns, "5")?.read(parse_count)?,
            max_waiting_per_group: get(ServeKey::MaxWaitingPerGroup, "1000")?.read(parse_room)?,
            max_waiting: get(ServeKey::MaxWaiting, "10000")?.read(parse_room)?,
            max_attempts: get(ServeKey::MaxAttempts, "3")?.read(parse_count)?,
            retry_delay: get(ServeKey::RetryDelay, "5s")?.read(parse_period)?,
            retry_agent_failures: get(ServeKey::RetryAgentFailures, "false")?.read(parse_named)?,
            drain: get(ServeKey::Drain, "30s")?.read(parse_period)?,
            keep: get(ServeKey::Keep, "30d")?.read(parse_period)?,
            on_request: None,
        };
        if let Some(found) = find(ServeKey::OnRequest)? {
            shown.push(found.shown_as("serve.on-request".to_owned()));
            settings.on_request = Some(found.read(|text| {
                parse_on_request(text)?;
                Ok(text.to_owned())
            })?);
        }
        Ok((settings, shown))
    }
}

fn find(flags: &dyn TypedServe, file: Option<&ConfigFile>, key: ServeKey) -> Result<Option<Found>> {
    if let Some(text) = flags.typed(key) {
        return Ok(Some(Found::of_serve(key.name(), Some(text), "")));
    }
    match file.and_then(|file| Some((file, file.serve.as_ref()?))) {
        Some((file, table)) => in_table(file, SERVE, table, key.name()),
        None => Ok(None),
    }
}
