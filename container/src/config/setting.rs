//! Settings as rows of a table, one for each.

use clap::{Arg, ArgAction};
use drawbridge_shared::protocol::AgentKind;

use crate::error::{Error, Result};

/// Row of a table of settings, without the type and the parser of its value.
pub(crate) struct Setting {
    /// Name of the key, and of the flag where that has none of its own.
    pub(crate) name: &'static str,
    /// Help text of the flag.
    pub(crate) help: &'static str,
    /// Notation of the value in the help text.
    pub(crate) value: &'static str,
    pub(crate) default: Default,
    pub(crate) flag: Flag,
    pub(crate) scopes: &'static [Scope],
}

/// Value of a setting that nobody has set.
pub(crate) enum Default {
    Text(&'static str),
    /// A value that differs from agent to agent.
    OfAgent(fn(AgentKind) -> String),
    /// No value.
    Unset,
}

/// Form of a setting on the command line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    /// `--NAME VALUE`
    Value,
    /// `--NAME VALUE`, with the default in the help text.
    ValueShowingDefault,
    /// `--NAME` for `true`, or `--NAME=VALUE`
    OptionalValue,
    /// A flag without a value, in place of the value that is named second.
    Switch(&'static str, &'static str),
    /// `--NAME VALUE`, which may be given more than once.
    Repeated,
    /// `--NAME VALUE`, repeated, with values that may begin with a dash.
    RepeatedArgument,
    /// A flag that only some commands have, and declare on their own.
    Elsewhere,
}

/// Place, other than the command line, in which a setting may be given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Environment variable.
    Variable,
    /// Table of its own kind: `[run]` or `[serve]`.
    Table,
    /// `[agent.NAME]`
    AgentTable,
    /// Settings of a submission to `serve`.
    Submission,
}

impl Setting {
    /// Whether it has any number of values.
    pub(super) const fn is_list(&self) -> bool {
        matches!(self.flag, Flag::Repeated | Flag::RepeatedArgument)
    }

    pub(crate) fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// The environment variable: `DRAWBRIDGE_` and the name.
    pub(crate) fn variable(&self) -> String {
        format!("DRAWBRIDGE_{}", self.name.to_uppercase().replace('-', "_"))
    }

    /// Name of the flag.
    pub(crate) const fn flag_name(&self) -> &'static str {
        match self.flag {
            Flag::Switch(name, _) => name,
            _ => self.name,
        }
    }

    /// The flag as an argument of a command, where all commands have it.
    pub(super) fn arg(&self) -> Option<Arg> {
        let arg = Arg::new(self.name)
            .long(self.flag_name())
            .help(self.help)
            .value_name(self.value);
        Some(match self.flag {
            Flag::Value => arg,
            Flag::ValueShowingDefault => match self.default {
                Default::Text(text) => arg.help(format!("{} [default: {text}]", self.help)),
                _ => arg,
            },
            Flag::OptionalValue => arg
                .num_args(0..=1)
                .default_missing_value("true")
                .require_equals(true),
            Flag::Switch(..) => Arg::new(self.name)
                .long(self.flag_name())
                .help(self.help)
                .action(ArgAction::SetTrue),
            Flag::Repeated => arg.action(ArgAction::Append),
            Flag::RepeatedArgument => arg.action(ArgAction::Append).allow_hyphen_values(true),
            Flag::Elsewhere => return None,
        })
    }
}

/// Key of a table of settings.
pub(crate) trait SettingKey: Copy + PartialEq + 'static {
    /// All keys, in the order of the table.
    const ALL: &'static [Self];
    /// Prefix of the names in `drawbridge config`.
    const PREFIX: &'static str;

    /// The row of the table.
    fn setting(self) -> &'static Setting;

    fn name(self) -> &'static str {
        self.setting().name
    }

    /// Name in `drawbridge config`.
    fn full_name(self) -> String {
        format!("{}{}", Self::PREFIX, self.name())
    }

    /// All keys that may be given in `scope`.
    fn in_scope(scope: Scope) -> impl Iterator<Item = Self> {
        let all = Self::ALL.iter().copied();
        all.filter(move |key| key.setting().has(scope))
    }

    /// The key of this name among those that may be given in `scope`.
    fn find(name: &str, scope: Scope) -> Option<Self> {
        Self::in_scope(scope).find(|key| key.name() == name)
    }

    /// Refuses a name that no key in `scope` has, with the error that `refuse`
    /// makes.
    fn require_known<'a>(
        names: impl IntoIterator<Item = &'a String>,
        scope: Scope,
        refuse: impl FnOnce(&str) -> Error,
    ) -> Result<()> {
        let mut names = names.into_iter();
        match names.find(|name| Self::find(name, scope).is_none()) {
            None => Ok(()),
            Some(name) => {
                let known: Vec<_> = Self::in_scope(scope).map(Self::name).collect();
                let known = known.join(", ");
                Err(refuse(name).hint(format!("accepted keys are {known}")))
            }
        }
    }
}

/// Makes the keys, the typed settings and their resolution from one table. A row
/// is `KEY => FIELD: TYPE = one(PARSER), SETTING;`, where `one`, `optional` and
/// `list` are the methods of [`super::layers::RawSetting`].
macro_rules! settings {
    (
        $(#[$key_attribute:meta])* enum $Key:ident = $prefix:literal;
        $(#[$attribute:meta])* struct $Settings:ident;
        $($Row:ident => $field:ident: $type:ty = $read:ident($parse:expr), $setting:expr;)+
    ) => {
        $(#[$key_attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $Key { $($Row),+ }

        impl SettingKey for $Key {
            const ALL: &'static [Self] = &[$(Self::$Row),+];
            const PREFIX: &'static str = $prefix;

            fn setting(self) -> &'static Setting {
                match self { $(Self::$Row => const { &$setting }),+ }
            }
        }

        $(#[$attribute])*
        #[derive(Clone, Debug)]
        pub(crate) struct $Settings { $(pub(crate) $field: $type),+ }

        impl $Settings {
            /// The value of each setting, and a row of `config show` for each.
            fn read(layers: &Layers<'_, $Key>) -> Result<(Self, Vec<SettingRow>)> {
                let mut rows = Vec::new();
                let settings = Self {
                    $($field: layers.find($Key::$Row, &mut rows)?.$read($parse)?),+
                };
                Ok((settings, rows))
            }
        }
    };
}
pub(super) use settings;
