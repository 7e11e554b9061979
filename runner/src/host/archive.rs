//! Conversations as Markdown in the group's folder, written before an agent
//! forgets the details of them.
//!
//! Names and layout are NanoClaw's, except that an older archive is never
//! overwritten.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use drawbridge_shared::file::open_regular;
use drawbridge_shared::json;
use jiff::Zoned;
use jiff::tz::TimeZone;
use serde_json::Value;
use tempfile::NamedTempFile;

/// Folder in the workspace that holds the archives.
const FOLDER: &str = "conversations";
/// Longest part of one message that is kept, in characters.
const MAX_MESSAGE_CHARS: usize = 2000;
/// Longest title in a file name.
const MAX_SLUG: usize = 50;
/// Longest line of a transcript that is read; images make long ones.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;
/// Most archives of one title on one day.
const MAX_NUMBER: u32 = 1000;

/// Where a group's conversations are archived.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    folder: PathBuf,
    assistant: String,
}

impl Archive {
    pub(crate) fn new(workspace: &Path, assistant: Option<&str>) -> Self {
        Self {
            folder: workspace.join(FOLDER),
            assistant: assistant.unwrap_or("Assistant").to_owned(),
        }
    }

    /// Archives a transcript; `None` when it holds nothing to keep.
    ///
    /// # Errors
    /// The transcript cannot be read or the archive cannot be written.
    pub(crate) fn save(&self, transcript: &Path, session: &str) -> io::Result<Option<PathBuf>> {
        let now = Zoned::now();
        let title = title(transcript, session);
        std::fs::create_dir_all(&self.folder)?;
        let mut file = NamedTempFile::new_in(&self.folder)?;
        let heading = title.as_deref().unwrap_or("Conversation");
        let time = now.strftime("%b %-d, %-I:%M %p");
        write!(file, "# {}\n\nArchived: {time}\n\n---\n", one_line(heading))?;
        let mut messages = 0;
        let mut lines = BufReader::new(open_regular(transcript)?);
        let mut line = Vec::new();
        while read_line(&mut lines, &mut line)? {
            if let Some((speaker, text)) = self.message(&line) {
                write!(file, "\n**{speaker}**: {}\n", cut(&text))?;
                messages += 1;
            }
        }
        if messages == 0 {
            return Ok(None);
        }
        let date = now.with_time_zone(TimeZone::UTC).strftime("%Y-%m-%d");
        let name = match title.as_deref().map(slug).filter(|slug| !slug.is_empty()) {
            Some(slug) => format!("{date}-{slug}"),
            None => format!("{date}-conversation-{}", now.strftime("%H%M")),
        };
        persist(file, &self.folder, &name).map(Some)
    }

    /// Speaker and text of a line of the transcript, if it is part of the
    /// conversation.
    fn message(&self, line: &[u8]) -> Option<(&str, String)> {
        let entry: Value = json::from_slice_lossy(line).ok()?;
        let is_set = |name: &str| entry[name] == Value::Bool(true);
        if is_set("isMeta") || is_set("isCompactSummary") || is_set("isSidechain") {
            return None;
        }
        let content = &entry["message"]["content"];
        let speaker = match entry["type"].as_str()? {
            "user" => "User",
            "assistant" => &self.assistant,
            _ => return None,
        };
        let text = match content {
            Value::String(text) if speaker == "User" => text.clone(),
            Value::Array(blocks) => blocks
                .iter()
                .filter_map(|block| block["text"].as_str())
                .collect(),
            _ => return None,
        };
        (!text.is_empty()).then_some((speaker, text))
    }
}

/// The conversation's title, from the index that some versions keep next to the
/// transcript.
fn title(transcript: &Path, session: &str) -> Option<String> {
    const MAX_INDEX_BYTES: u64 = 16 * 1024 * 1024;
    let index = transcript.with_file_name("sessions-index.json");
    let mut bytes = Vec::new();
    let file = open_regular(&index).ok()?;
    file.take(MAX_INDEX_BYTES).read_to_end(&mut bytes).ok()?;
    let index: Value = json::from_slice_lossy(&bytes).ok()?;
    let entries = index["entries"].as_array()?;
    let entry = entries.iter().find(|entry| entry["sessionId"] == session)?;
    let title = entry["summary"].as_str()?;
    (!title.is_empty()).then(|| title.to_owned())
}

/// A file name from the title, in ASCII.
fn slug(title: &str) -> String {
    let words = title
        .to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-");
    words[..words.len().min(MAX_SLUG)]
        .trim_matches('-')
        .to_owned()
}

/// Gives the file the first free name.
fn persist(mut file: NamedTempFile, folder: &Path, name: &str) -> io::Result<PathBuf> {
    for number in 1..=MAX_NUMBER {
        let name = match number {
            1 => format!("{name}.md"),
            number => format!("{name}-{number}.md"),
        };
        let path = folder.join(name);
        match file.persist_noclobber(&path) {
            Ok(_) => return Ok(path),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => file = error.file,
            Err(error) => return Err(error.error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Reads the next line into `line`; one that is too long is left empty.
fn read_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let length = lines
        .by_ref()
        .take(MAX_LINE_BYTES)
        .read_until(b'\n', line)?;
    if length as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
        line.clear();
        lines.skip_until(b'\n')?;
    }
    Ok(length > 0)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new(transcript: &str, title: Option<&str>) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("s1.jsonl"), transcript).unwrap();
            if let Some(title) = title {
                let entries = serde_json::json!([{ "sessionId": "s1", "summary": title }]);
                let index = serde_json::json!({ "entries": entries }).to_string();
                std::fs::write(dir.path().join("sessions-index.json"), index).unwrap();
            }
            Self { dir }
        }

        fn save(&self) -> Option<(String, String)> {
            let archive = Archive::new(self.dir.path(), Some("Andy"));
            let path = archive
                .save(&self.dir.path().join("s1.jsonl"), "s1")
                .unwrap()?;
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            Some((name, std::fs::read_to_string(path).unwrap()))
        }
    }

    const TALK: &str = r#"{"type":"user","message":{"content":"hello"}}
{"type":"assistant","message":{"content":[{"type":"text","text":"Hi "},{"type":"tool_use"},{"type":"text","text":"you"}]}}
not json
{"type":"user","message":{"content":[{"type":"tool_result","content":"x"}]}}
{"type":"user","isMeta":true,"message":{"content":"meta"}}
{"type":"user","isCompactSummary":true,"message":{"content":"summary"}}
{"type":"assistant","isSidechain":true,"message":{"content":[{"type":"text","text":"sub"}]}}
{"type":"attachment"}
"#;

    #[test]
    fn the_layout_is_nanoclaws() {
        let (name, text) = Place::new(TALK, Some("Plan the Trip!")).save().unwrap();
        assert!(name.ends_with("-plan-the-trip.md"), "{name}");
        let archived = text.lines().nth(2).unwrap().to_owned();
        assert!(archived.starts_with("Archived: "), "{archived}");
        let expected = format!(
            "# Plan the Trip!\n\n{archived}\n\n---\n\n**User**: hello\n\n**Andy**: Hi you\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn nothing_is_overwritten() {
        let place = Place::new(TALK, Some("same"));
        let names: Vec<_> = (0..3).map(|_| place.save().unwrap().0).collect();
        assert!(names[0].ends_with("-same.md"), "{names:?}");
        assert!(names[1].ends_with("-same-2.md"), "{names:?}");
        assert!(names[2].ends_with("-same-3.md"), "{names:?}");
    }

    #[test]
    fn no_title_can_leave_the_folder_or_hide() {
        for title in [
            "../../etc/passwd",
            "...",
            "日本語",
            "a/b\0c",
            "-rf",
            "",
            "\n# x",
        ] {
            let place = Place::new(TALK, Some(title));
            let (name, text) = place.save().unwrap();
            let safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            assert!(name.chars().all(safe), "{name}");
            assert!(name.len() > "2026-11-21-.md".len(), "{name}");
            assert!(text.starts_with("# "), "{text}");
            assert_eq!(text.lines().nth(1), Some(""), "{text}");
        }
        let long = "word ".repeat(30);
        let (name, _) = Place::new(TALK, Some(&long)).save().unwrap();
        assert!(name.len() <= "2026-11-21-.md".len() + MAX_SLUG, "{name}");
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let line = serde_json::json!({
            "type": "user", "message": { "content": "é".repeat(3000) },
        });
        let (_, text) = Place::new(&line.to_string(), None).save().unwrap();
        assert!(text.contains(&format!("{}...\n", "é".repeat(2000))));
        assert!(!text.contains(&"é".repeat(2001)));
    }

    #[test]
    fn a_transcript_without_talk_leaves_no_file() {
        let place = Place::new("{\"type\":\"attachment\"}\n", None);
        assert_eq!(place.save(), None);
        let folder = place.dir.path().join(FOLDER);
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    }
}
