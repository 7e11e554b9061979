//! The file that says what may be mounted. NanoClaw's format, so that its file
//! can be used as it is; it lives in the user's configuration folder, which no
//! agent ever sees.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::names::Names;
use super::request::expand_home;
use crate::error::{Context, Error, Result};

/// Name of the file in the user's configuration folder.
const FILE_NAME: &str = "drawbridge/mount-allowlist.json";
/// Largest file, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// Mode bits with which others could change a file.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The user's list of folders that may be mounted.
#[derive(Clone, Debug)]
pub(crate) struct Allowlist {
    path: PathBuf,
    roots: Vec<Root>,
    names: Names,
    non_main_read_only: bool,
}

#[derive(Clone, Debug)]
struct Root {
    path: PathBuf,
    is_writable: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    allowed_roots: Vec<RootEntry>,
    blocked_patterns: Vec<String>,
    non_main_read_only: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RootEntry {
    path: String,
    allow_read_write: bool,
    #[serde(default, rename = "description")]
    _description: Option<String>,
}

/// Where the file is: `XDG_CONFIG_HOME`, else `~/.config`.
pub(crate) fn place(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let xdg = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let xdg = xdg.filter(|folder| folder.is_absolute());
    let home = || variable("HOME").map(|home| Path::new(&home).join(".config"));
    xdg.or_else(home).map(|folder| folder.join(FILE_NAME))
}

impl Allowlist {
    /// Reads the file; one that is not there allows nothing.
    pub(crate) fn read(path: &Path, home: Option<&Path>) -> Result<Self> {
        let shown = path.display();
        let failed = || Error::usage(format!("{shown} cannot be used, so nothing can be mounted"));
        let path = fs::canonicalize(path).context(|| {
            Error::usage(format!("nothing may be mounted: {shown} cannot be read"))
                .hint("docs/isolation.md has an example of that file")
        })?;
        let file = fs::File::open(&path).context(failed)?;
        let metadata = file.metadata().context(failed)?;
        let is_ours = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
        if !metadata.is_file() || !is_ours || metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(failed()
                .caused_by("others than you can change it")
                .hint(format!("chown it to yourself, and chmod 600 {shown}")));
        }
        let mut text = String::new();
        file.take(MAX_BYTES)
            .read_to_string(&mut text)
            .context(failed)?;
        let File {
            allowed_roots,
            blocked_patterns,
            non_main_read_only,
        } = serde_json::from_str(&text).context(failed)?;
        if blocked_patterns
            .iter()
            .any(|name| name.trim_matches('/').is_empty())
        {
            return Err(failed().caused_by("a blocked pattern is empty"));
        }
        let roots = allowed_roots.into_iter().filter_map(|root| {
            // A root that is not there allows nothing.
            let path = fs::canonicalize(expand_home(Path::new(&root.path), home)?).ok()?;
            Some(Root {
                path,
                is_writable: root.allow_read_write,
            })
        });
        Ok(Self {
            path,
            roots: roots.collect(),
            names: Names::with(&blocked_patterns),
            non_main_read_only,
        })
    }

    /// The file itself, links resolved.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Names that are never shown.
    pub(super) const fn names(&self) -> &Names {
        &self.names
    }

    /// Whether a path, links resolved, is in an allowed root.
    pub(super) fn allows(&self, path: &Path) -> bool {
        self.root_of(path).is_some()
    }

    /// Why a path that is allowed may not be written to, if so.
    pub(super) fn refuses_writing(&self, path: &Path, is_main: bool) -> Option<&'static str> {
        if self.non_main_read_only && !is_main {
            return Some("nonMainReadOnly is true in the allowlist");
        }
        let is_writable = self.root_of(path).is_some_and(|root| root.is_writable);
        (!is_writable).then_some("allowReadWrite is false for its root in the allowlist")
    }

    /// The innermost root that holds a path.
    fn root_of(&self, path: &Path) -> Option<&Root> {
        let holding = self
            .roots
            .iter()
            .filter(|root| path.starts_with(&root.path));
        holding.max_by_key(|root| root.path.components().count())
    }
}
