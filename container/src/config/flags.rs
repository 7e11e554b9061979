//! Values of settings that were given as flags.

use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::setting::{Flag, SettingKey};

/// Values that flags give to settings, as text: those of a command line, those
/// that a submission adds to them, or those that this program gives itself.
#[derive(Clone, Debug)]
pub(crate) struct FlagValues<K>(Vec<(K, String)>);

impl<K> Default for FlagValues<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: SettingKey> FlagValues<K> {
    pub(crate) fn new(values: &[(K, &str)]) -> Self {
        let values = values.iter();
        Self(
            values
                .map(|(key, text)| (*key, (*text).to_owned()))
                .collect(),
        )
    }

    /// The values of one setting, in their order: at most one, unless its flag
    /// can be repeated.
    pub(crate) fn all(&self, key: K) -> impl Iterator<Item = &str> {
        let values = self.0.iter().filter(move |(other, _)| *other == key);
        values.map(|(_, text)| text.as_str())
    }

    /// Adds a value to a setting that is a list, and replaces that of any other.
    pub(crate) fn give(&mut self, key: K, text: impl Into<String>) {
        if !key.setting().is_list() {
            self.0.retain(|(other, _)| *other != key);
        }
        self.0.push((key, text.into()));
    }
}

impl<K: SettingKey> Args for FlagValues<K> {
    fn augment_args(command: Command) -> Command {
        let settings = K::ALL.iter().map(|key| key.setting());
        command.args(settings.filter_map(super::setting::Setting::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<K: SettingKey> FromArgMatches for FlagValues<K> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut values = Self::default();
        values.update_from_arg_matches(matches)?;
        Ok(values)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in K::ALL {
            match key.setting().flag {
                Flag::Elsewhere => {}
                Flag::Switch(_, value) => {
                    if matches.get_flag(key.name()) {
                        self.give(*key, value);
                    }
                }
                _ => {
                    for text in matches.get_many::<String>(key.name()).into_iter().flatten() {
                        self.give(*key, text);
                    }
                }
            }
        }
        Ok(())
    }
}
