//! From flags, environment and `drawbridge.toml` to the settings of a run.
//!
//! A flag wins over the environment, which wins over the file. An unknown name
//! is an error, so that a misspelt limit is not a missing one.
//!
//! The tables in [`run`] and [`serve`] hold all that there is to know of each
//! setting.

pub(crate) mod credentials;
pub(crate) mod edit;
mod flags;
mod layers;
mod resolve;
mod run;
mod serve;
mod setting;
mod value;

pub(crate) use flags::FlagValues;
pub(crate) use layers::SettingRow;
pub(crate) use resolve::{find_file, observe, resolve, resolve_with};
pub(crate) use run::{Key, RunSettings, default_image};
pub(crate) use serve::{ServeKey, ServeSettings};
pub(crate) use setting::{Scope, SettingKey};
pub(crate) use value::{NetworkChoice, RuntimeChoice, SandboxChoice};

#[cfg(test)]
mod tests;
