//! Settings that Gemini CLI needs in its home before it starts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use drawbridge_shared::file::write_atomic;
use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::protocol::ErrorKind;
use serde_json::json;

use crate::agent::types::{AgentSpec, Failure};

/// Gemini CLI takes these settings from a file only. This one stands next to
/// the user's own and wins over them.
pub(super) fn write_settings(spec: &AgentSpec) -> Result<OsString, Failure> {
    let folder = spec.home.join(".drawbridge");
    let path = folder.join("gemini-settings.json");
    let settings = json!({
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": false},
        "general": {"enableAutoUpdate": false, "enableAutoUpdateNotification": false},
    });
    fs::create_dir_all(&folder)
        .and_then(|()| write_atomic(&path, settings.to_string().as_bytes()))
        .map_err(|error| {
            let text = format!("cannot write {}: {error}", path.display());
            Failure::new(ErrorKind::StartUp, text)
        })?;
    Ok(path.into())
}

/// Keeps a session's file from being emptied when it is resumed.
///
/// Gemini CLI 0.61 names the file by the minute and the id's beginning, and
/// begins a new one before it reads the old one. In the minute that the session
/// was started in, both are the same file. Under another name the old one is
/// still found, because it is looked for by its content.
pub(super) fn protect_session(home: &Path, id: &AgentSessionId) {
    if let Err(error) = rename_session(home, id) {
        tracing::warn!("conversation {id} may be lost when it is resumed: {error}");
    }
}

fn rename_session(home: &Path, id: &AgentSessionId) -> io::Result<()> {
    let short: String = id.as_str().chars().take(8).collect();
    let kept = format!("-kept-{short}.jsonl");
    let usual = format!("-{short}.jsonl");
    let files = session_files(&home.join(".gemini/tmp"))?;
    let is_named = |path: &PathBuf, end: &str| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("session-") && name.ends_with(end)
    };
    // From then on the session is written to that file.
    if files.iter().any(|path| is_named(path, &kept)) {
        return Ok(());
    }
    for path in files.iter().filter(|path| is_named(path, &usual)) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.replace(&usual, &kept);
        fs::rename(path, path.with_file_name(name))?;
    }
    Ok(())
}

/// Files of all projects' sessions; none when there is no such folder.
fn session_files(projects: &Path) -> io::Result<Vec<PathBuf>> {
    let list = |folder: &Path| match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
    };
    let mut files = Vec::new();
    for project in list(projects)? {
        if project.is_dir() {
            files.extend(list(&project.join("chats"))?);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_renamed_once_and_no_other_is() {
        let home = tempfile::tempdir().unwrap();
        let id: AgentSessionId = "01234567-89ab-4cde-8f01-23456789abcd".parse().unwrap();
        protect_session(home.path(), &id);
        let chats = home.path().join(".gemini/tmp/workspace/chats");
        fs::create_dir_all(&chats).unwrap();
        let write = |name: &str| fs::write(chats.join(name), name).unwrap();
        write("session-2026-11-20T10-00-01234567.jsonl");
        write("session-2026-11-20T10-00-76543210.jsonl");
        protect_session(home.path(), &id);
        // A file that a resumed run begins next to it.
        write("session-2026-11-20T10-01-01234567.jsonl");
        protect_session(home.path(), &id);
        let mut names: Vec<_> = fs::read_dir(&chats)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        insta::assert_snapshot!(names.join("\n"), @"
        session-2026-11-20T10-00-76543210.jsonl
        session-2026-11-20T10-00-kept-01234567.jsonl
        session-2026-11-20T10-01-01234567.jsonl
        ");
    }
}
