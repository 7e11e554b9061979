//! `drawbridge.toml`: found, read, and checked for its tables.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::Environment;

/// Name of the document's file.
pub const FILE_NAME: &str = "drawbridge.toml";

/// Largest document, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// One `drawbridge.toml`, of which every table is known.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// The file it was read from.
    pub path: PathBuf,
    /// `[run]`: settings of the launcher's runs.
    pub run: Option<toml::Table>,
    /// `[agent.NAME]`: settings of the runs of one agent.
    pub agents: BTreeMap<String, toml::Table>,
    /// `[serve]`: settings of the launcher that is left running.
    pub serve: Option<toml::Table>,
    /// `[[mounts]]`: folders and files that agents see.
    pub mounts: Vec<toml::Table>,
    /// The whole text: the proxy reads its tables from it with their lines.
    text: String,
}

/// All tables of the document. A later one is one more field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(rename = "proxy")]
    _proxy: Option<IgnoredAny>,
    #[serde(rename = "route")]
    _route: Option<IgnoredAny>,
    run: Option<toml::Table>,
    #[serde(default)]
    agent: BTreeMap<String, toml::Table>,
    serve: Option<toml::Table>,
    #[serde(default)]
    mounts: Vec<toml::Table>,
}

/// A fault of the document's file or form.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file is not of the right form.
    #[error("{}{line}: {message}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// ` line N`, where it is known.
        line: String,
        /// The fault, with what is accepted.
        message: String,
    },
}

impl Document {
    /// Reads the file of the working directory, else that of the user's
    /// configuration folder, if there is one.
    ///
    /// # Errors
    /// A file is there but cannot be read or is not of the right form.
    pub fn find(env: &Environment) -> Result<Option<Self>, DocumentError> {
        let found = Self::place(env);
        found.map(|path| Self::read(&path)).transpose()
    }

    /// The file that [`Self::find`] reads.
    #[must_use]
    pub fn place(env: &Environment) -> Option<PathBuf> {
        let candidates = [Some(Self::place_here(env)), Self::place_of_user(env)];
        candidates.into_iter().flatten().find(|path| path.exists())
    }

    /// The file of the working directory, whether it exists or not.
    #[must_use]
    pub fn place_here(env: &Environment) -> PathBuf {
        env.directory().join(FILE_NAME)
    }

    /// The user's own file, whether it exists or not, if a home is known.
    #[must_use]
    pub fn place_of_user(env: &Environment) -> Option<PathBuf> {
        let folder = match (env.variable("XDG_CONFIG_HOME"), env.variable("HOME")) {
            (Some(folder), _) => PathBuf::from(folder),
            (None, Some(home)) => Path::new(home).join(".config"),
            (None, None) => return None,
        };
        Some(folder.join("drawbridge").join(FILE_NAME))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read or is not of the right form.
    pub fn read(path: &Path) -> Result<Self, DocumentError> {
        Self::parse(path, Self::text(path)?)
    }

    /// The text of a file, whatever its form.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn text(path: &Path) -> Result<String, DocumentError> {
        let failed = |source| DocumentError::Read {
            path: path.to_owned(),
            source,
        };
        let size = std::fs::metadata(path).map_err(failed)?.len();
        if size > MAX_BYTES {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        std::fs::read_to_string(path).map_err(failed)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// It is not TOML, or has a table that is not known.
    pub fn parse(path: &Path, text: impl Into<String>) -> Result<Self, DocumentError> {
        let text = text.into();
        let tables: Tables = parse(path, &text)?;
        Ok(Self {
            path: path.to_owned(),
            run: tables.run,
            agents: tables.agent,
            serve: tables.serve,
            mounts: tables.mounts,
            text,
        })
    }

    /// Those tables that `T` has as fields, by their names; `T` ignores others.
    ///
    /// # Errors
    /// They are not of `T`'s form: an unknown key, or a value that is not one of
    /// the accepted ones.
    pub fn tables<T: DeserializeOwned>(&self) -> Result<T, DocumentError> {
        parse(&self.path, &self.text)
    }
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, DocumentError> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| before.matches('\n').count() + 1);
        DocumentError::Form {
            path: path.to_owned(),
            line: line.map(|line| format!(" line {line}")).unwrap_or_default(),
            message: error.message().to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Document::parse(Path::new("d.toml"), text)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_table_that_nobody_knows_is_refused_with_its_line() {
        let error = refusal("[run]\nmemory = \"1g\"\n[rum]\n");
        assert_eq!(
            error,
            "d.toml line 3: unknown field `rum`, expected one of `proxy`, `route`, `run`, \
             `agent`, `serve`, `mounts`"
        );
        assert!(refusal("not toml").starts_with("d.toml line 1: "));
    }

    #[test]
    fn the_tables_of_others_do_not_disturb_ones_own() {
        #[derive(Deserialize)]
        struct Own {
            proxy: toml::Table,
        }
        let text = "[proxy]\nport = 1\n[run]\nmemory = 2\n[agent.a]\n";
        let document = Document::parse(Path::new("d.toml"), text).unwrap();
        assert_eq!(document.tables::<Own>().unwrap().proxy.len(), 1);
        assert_eq!(document.run.unwrap().len(), 1);
        assert_eq!(document.agents.len(), 1);
    }

    #[test]
    fn the_working_directory_comes_before_the_users_folder() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home/.config/drawbridge");
        std::fs::create_dir_all(&home).unwrap();
        let home_folder = folder.path().join("home").display().to_string();
        let env = Environment::new([("HOME", home_folder)], folder.path());
        assert!(Document::find(&env).unwrap().is_none());
        std::fs::write(home.join(FILE_NAME), "").unwrap();
        assert_eq!(Document::place(&env), Document::place_of_user(&env));
        std::fs::write(folder.path().join(FILE_NAME), "").unwrap();
        assert_eq!(Document::place(&env), Some(Document::place_here(&env)));
    }
}
