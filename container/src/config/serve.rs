//! Settings of `serve`: `[serve]`, and flags.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use drawbridge_settings::Document;

use super::flags::FlagValues;
use super::layers::{Layer, Layers, SERVE, SettingRow};
use super::setting::{Default, Flag, Scope, Setting, SettingKey, settings};
use super::value::{parse_bool, parse_capacity, parse_count, parse_on_request, parse_period};
use crate::error::Result;

/// Scopes and flag of most settings.
const ROW: Setting = Setting {
    name: "",
    help: "",
    value: "",
    default: Default::Unset,
    flag: Flag::ValueShowingDefault,
    scopes: &[Scope::Table],
};

settings! {
    /// Key of a setting of `serve`.
    enum ServeKey = "serve.";
    /// Settings of `serve`.
    struct ServeSettings;

    MaxRuns => max_runs: NonZeroUsize = one(parse_count), Setting {
        name: "max-runs",
        help: "Most runs at one time",
        value: "NUMBER",
        default: Default::Text("5"),
        ..ROW
    };
    MaxWaitingPerGroup => max_waiting_per_group: usize = one(parse_capacity), Setting {
        name: "max-waiting-per-group",
        help: "Most submissions that wait in one group",
        value: "NUMBER",
        default: Default::Text("1000"),
        ..ROW
    };
    MaxWaiting => max_waiting: usize = one(parse_capacity), Setting {
        name: "max-waiting",
        help: "Most submissions that wait in all",
        value: "NUMBER",
        default: Default::Text("10000"),
        ..ROW
    };
    MaxAttempts => max_attempts: NonZeroU32 = one(parse_count), Setting {
        name: "max-attempts",
        help: "Attempts that a submission gets before it is a dead letter",
        value: "NUMBER",
        default: Default::Text("3"),
        ..ROW
    };
    RetryDelay => retry_delay: Duration = one(parse_period), Setting {
        name: "retry-delay",
        help: "Wait before the second attempt; each later one is twice as long",
        value: "TIME",
        default: Default::Text("5s"),
        ..ROW
    };
    RetryAgentFailures => retry_agent_failures: bool = one(parse_bool), Setting {
        name: "retry-agent-failures",
        help: "Also repeat work that the agent may have done in part",
        value: "true|false",
        default: Default::Text("false"),
        flag: Flag::OptionalValue,
        ..ROW
    };
    Drain => drain: Duration = one(parse_period), Setting {
        name: "drain",
        help: "How long runs may take to end after a signal",
        value: "TIME",
        default: Default::Text("30s"),
        ..ROW
    };
    Keep => keep: Duration = one(parse_period), Setting {
        name: "keep",
        help: "How long to remember what ended with a result",
        value: "TIME",
        default: Default::Text("30d"),
        ..ROW
    };
    // Without a value, that of the run decides.
    OnRequest => on_request: Option<String> = optional(parse_program), Setting {
        name: "on-request",
        help: "Program that answers what agents ask for: one request as JSON on its standard \
               input, the answer as JSON on its standard output. Without it, or with `none`, \
               requests are events, and `answer` commands answer them",
        value: "PROGRAM|none",
        ..ROW
    };
}

impl ServeSettings {
    /// The settings of the file, and the source of each.
    pub(crate) fn of_file(file: Option<&Document>) -> Result<(Self, Vec<SettingRow>)> {
        Self::resolve(&FlagValues::default(), file)
    }

    /// All settings, and the source of each; flags win over the file.
    pub(crate) fn resolve(
        flags: &FlagValues<ServeKey>,
        file: Option<&Document>,
    ) -> Result<(Self, Vec<SettingRow>)> {
        let mut layers = vec![Layer::Flags(flags)];
        if let Some((file, values)) = file.and_then(|file| Some((file, file.serve.as_ref()?))) {
            let name = SERVE.to_owned();
            layers.push(Layer::Table { file, name, values });
        }
        Self::read(&Layers {
            layers,
            agent: None,
        })
    }
}

/// The name of a program, or `none`, as it is written.
fn parse_program(text: &str) -> Result<String, String> {
    parse_on_request(text).map(|_| text.to_owned())
}
