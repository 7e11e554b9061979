//! Mounts that the user asks for: `--mount HOST[:NAME][:rw]` and `[[mounts]]`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Context, Error, Result};
use crate::spec::Access;

/// A folder or file of this machine that the agent is to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountRequest {
    /// As it was written.
    pub(super) path: PathBuf,
    pub(super) place: Place,
    pub(super) access: Access,
}

/// Where the agent finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Below `/workspace/extra`; under the last part of its own path when
    /// absent.
    Extra(Option<String>),
    /// Where it is on this machine.
    SamePath,
}

/// One table of `[[mounts]]`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    path: PathBuf,
    name: Option<String>,
    #[serde(default)]
    write: bool,
    #[serde(default)]
    same_path: bool,
}

const FLAG_RULE: &str = "accepted is HOST[:NAME][:same-path][:ro|:rw], with no colon in HOST or \
     NAME, such as ~/src/app:rw";

impl MountRequest {
    /// Reads the value of a `--mount` flag.
    pub(crate) fn from_flag(text: &str) -> Result<Self> {
        let refused =
            |why: String| Err(Error::usage(format!("--mount {text:?}: {why}")).hint(FLAG_RULE));
        let mut words = text.split(':');
        let path = PathBuf::from(words.next().unwrap_or_default());
        let (mut name, mut access, mut same_path) = (None, None, false);
        for word in words {
            let is_new = match word {
                "rw" => access.replace(Access::Write).is_none(),
                "ro" => access.replace(Access::Read).is_none(),
                "same-path" => !std::mem::replace(&mut same_path, true),
                other => name.replace(other.to_owned()).is_none(),
            };
            if !is_new {
                return refused(format!("{word:?} is one word too many"));
            }
        }
        let access = access.unwrap_or(Access::Read);
        Self::new(path, name, same_path, access).or_else(|why| refused(why.to_owned()))
    }

    /// The request with an absolute path, valid in any working directory.
    pub(crate) fn absolute(mut self) -> Result<Self> {
        if self.path.starts_with("~") {
            return Ok(self);
        }
        self.path = std::path::absolute(&self.path)
            .context(|| Error::usage("the working directory cannot be read"))?;
        // It is passed on as a text.
        match self.path.to_str() {
            Some(path) if !path.contains(':') => Ok(self),
            _ => {
                let shown = self.path.display();
                Err(Error::usage(format!("--mount: {shown} cannot be passed on")).hint(FLAG_RULE))
            }
        }
    }

    /// Reads the `[[mounts]]` of a configuration file.
    pub(crate) fn from_tables(path: &Path, tables: &[toml::Table]) -> Result<Vec<Self>> {
        let read = |table: &toml::Table| {
            let table: Table = table.clone().try_into().map_err(|error: toml::de::Error| {
                Error::usage(format!("{}: [[mounts]]", path.display()))
                    .caused_by(error.message().to_owned())
                    .hint("accepted keys are path, name, write, same-path")
            })?;
            let access = if table.write {
                Access::Write
            } else {
                Access::Read
            };
            Self::new(table.path, table.name, table.same_path, access)
                .map_err(|why| Error::usage(format!("{}: [[mounts]]: {why}", path.display())))
        };
        tables.iter().map(read).collect()
    }

    fn new(
        path: PathBuf,
        name: Option<String>,
        same_path: bool,
        access: Access,
    ) -> Result<Self, &'static str> {
        if path.as_os_str().is_empty() {
            return Err("there is no path");
        }
        if name.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(NAME_RULE);
        }
        let place = match (name, same_path) {
            (Some(_), true) => return Err("a mount at the same path has no name of its own"),
            (None, true) => Place::SamePath,
            (name, false) => Place::Extra(name),
        };
        Ok(Self {
            path,
            place,
            access,
        })
    }
}

pub(super) const NAME_RULE: &str = "a name has 1 to 100 letters, digits, spaces, '.', '_', '-' or '+', and does not begin \
     with a '.' or '-'";

/// Whether a text can be the name of a mount: one plain component of a path.
pub(super) fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || " ._-+".contains(c);
    (1..=100).contains(&text.chars().count())
        && !text.starts_with(['.', '-', ' '])
        && text.chars().all(is_plain)
}

impl fmt::Display for MountRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match &self.place {
            Place::Extra(None) => {}
            Place::Extra(Some(name)) => write!(f, ":{name}")?,
            Place::SamePath => f.write_str(":same-path")?,
        }
        match self.access {
            Access::Read => Ok(()),
            Access::Write => f.write_str(":rw"),
        }
    }
}

/// The path with a leading `~` replaced.
pub(super) fn expand_home(path: &Path, home: Option<&Path>) -> Option<PathBuf> {
    match path.strip_prefix("~") {
        Ok(rest) => home.map(|home| home.join(rest)),
        Err(_) => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_read_and_shown_alike() {
        for text in [
            "/a",
            "~/b:rw",
            "/a:app",
            "/a:app:rw",
            "/a:same-path",
            "/a:same-path:rw",
        ] {
            assert_eq!(MountRequest::from_flag(text).unwrap().to_string(), text);
        }
        assert_eq!(MountRequest::from_flag("/a:ro").unwrap().to_string(), "/a");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "",
            ":x",
            "/a:",
            "/a:..",
            "/a:x/y",
            "/a:x:y",
            "/a:rw:ro",
            "/a:rw:rw",
            "/a:-x",
            "/a:x,y",
            "/a:x:same-path",
            "/a:.ssh",
        ] {
            let error = MountRequest::from_flag(text).unwrap_err();
            assert!(error.hint_text().is_some(), "{text}");
        }
    }

    #[test]
    fn tables_say_the_same_and_know_their_keys() {
        let read = |text: &str| {
            let table: toml::Table = text.parse().unwrap();
            MountRequest::from_tables(Path::new("/x/drawbridge.toml"), &[table])
        };
        let requests = read("path = '/a'\nname = 'app'\nwrite = true").unwrap();
        assert_eq!(requests, [MountRequest::from_flag("/a:app:rw").unwrap()]);
        let error = read("path = '/a'\nwriteable = true").unwrap_err();
        assert!(
            error.one_line().contains("unknown field `writeable`"),
            "{error:?}"
        );
    }
}
