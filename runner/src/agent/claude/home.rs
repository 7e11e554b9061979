//! Claude Code's home: settings, skills, and transcripts that are neither too
//! old nor too large.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use drawbridge_shared::file::write_atomic;
use drawbridge_shared::ids::AgentSessionId;

use tokio::task::spawn_blocking;

use crate::agent::types::{AgentEvent, AgentLink, AgentSpec};
use crate::host::archive::Archive;

/// NanoClaw's settings of a new group. They are written once, so that the group
/// can change them.
const SETTINGS: &str = r#"{
  "env": {
    "CLAUDE_CODE_EXPERIMENTAL_AGENT_TEAMS": "1",
    "CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "0",
    "CLAUDE_CODE_AUTO_COMPACT_WINDOW": "165000"
  }
}
"#;
/// Most files of all skills together.
const MAX_SKILL_FILES: usize = 10_000;

/// Prepares the home and returns the conversation to resume.
pub(super) async fn prepare(spec: &AgentSpec, link: &AgentLink) -> Option<AgentSessionId> {
    let for_home = spec.clone();
    let preparing = spawn_blocking(move || arrange(&for_home));
    let prepared = preparing.await.unwrap_or_default();
    for warning in prepared.warnings {
        link.send(AgentEvent::Warning(warning)).await;
    }
    if prepared.is_too_large {
        let text = "the conversation has grown too large; it is archived and a new one begun";
        link.send(AgentEvent::Notice(text.to_owned())).await;
        return None;
    }
    spec.resume.clone()
}

/// Findings while the home was prepared.
#[derive(Debug, Default)]
struct Prepared {
    /// The conversation has grown too large to go on with.
    is_too_large: bool,
    warnings: Vec<String>,
}

/// Arranges the home. A part that fails is reported and left as it is: Claude
/// Code works without it.
fn arrange(spec: &AgentSpec) -> Prepared {
    let config = config_folder(&spec.home);
    let mut prepared = Prepared::default();
    let mut warn = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            prepared.warnings.push(format!("{what}: {error}"));
        }
    };
    warn("cannot write the settings", write_settings(&config));
    if let Some(skills) = &spec.skills {
        let copied = copy_skills(skills, &config.join("skills"));
        warn("cannot copy the skills", copied);
    }
    if config.join(".credentials.json").exists() {
        let text = "a login is stored in the agent's home; it can be used past the proxy";
        prepared.warnings.push(text.to_owned());
    }
    tidy_transcripts(spec, &config, &mut prepared);
    prepared
}

/// Claude Code's own folder.
fn config_folder(home: &Path) -> PathBuf {
    std::env::var_os("CLAUDE_CONFIG_DIR").map_or_else(|| home.join(".claude"), PathBuf::from)
}

fn write_settings(config: &Path) -> io::Result<()> {
    let path = config.join("settings.json");
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    fs::create_dir_all(config)?;
    write_atomic(&path, SETTINGS.as_bytes())
}

/// Copies each skill over the one of the same name; others are left alone.
fn copy_skills(from: &Path, to: &Path) -> io::Result<()> {
    let mut files_left = MAX_SKILL_FILES;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let target = to.join(entry.file_name());
            match fs::remove_dir_all(&target) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => copy_folder(&entry.path(), &target, &mut files_left)?,
            }
        }
    }
    Ok(())
}

/// Copies folders and regular files; a link could lead anywhere.
fn copy_folder(from: &Path, to: &Path, files_left: &mut usize) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_folder(&entry.path(), &target, files_left)?;
        } else if kind.is_file() {
            *files_left = files_left
                .checked_sub(1)
                .ok_or_else(|| io::Error::other("there are too many files"))?;
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Removes transcripts that were not used for long, and returns whether the one
/// to go on with is too large; that one is archived and stays.
fn tidy_transcripts(spec: &AgentSpec, config: &Path, prepared: &mut Prepared) {
    let limits = spec.transcripts;
    let oldest = limits.max_age_days.and_then(|days| {
        SystemTime::now().checked_sub(Duration::from_secs(u64::from(days) * 24 * 3600))
    });
    for path in transcripts(config) {
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        let session = path.file_stem().and_then(|stem| stem.to_str());
        let is_live =
            session.is_some() && session == spec.resume.as_ref().map(AgentSessionId::as_str);
        if is_live {
            if limits.max_bytes.is_some_and(|most| metadata.len() > most) {
                prepared.is_too_large = true;
                let archive = Archive::new(&spec.workspace, spec.assistant_name.as_deref());
                if let Err(error) = archive.save(&path, session.unwrap_or_default()) {
                    let text = format!("cannot archive the conversation: {error}");
                    prepared.warnings.push(text);
                }
            }
            continue;
        }
        let is_old = metadata
            .modified()
            .is_ok_and(|modified| oldest.is_some_and(|oldest| modified < oldest));
        if is_old && let Err(error) = remove_transcript(&path) {
            let text = format!("cannot remove {}: {error}", path.display());
            prepared.warnings.push(text);
        }
    }
}

/// All transcripts, of whatever working directory.
fn transcripts(config: &Path) -> Vec<PathBuf> {
    let projects = fs::read_dir(config.join("projects")).into_iter().flatten();
    let files = projects
        .flatten()
        .flat_map(|project| fs::read_dir(project.path()).into_iter().flatten());
    files
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect()
}

/// Removes a transcript and the folder of its subagents.
fn remove_transcript(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path.with_extension("")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::remove_file(path),
    }
}
