//! The conversation on disk: one JSON message per line, in
//! `$HOME/.drawbridge/sessions/ID.jsonl`.
//!
//! A line is synced before the message counts as received. A line that was cut
//! by a kill is the last one and has no end; it is removed when the conversation
//! is resumed.

use std::error::Error;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::json::from_slice_lossy;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// Largest conversation, in bytes on disk; far more than any model can read.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// One message, in the Messages API's own form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) role: Role,
    pub(super) content: Vec<Value>,
}

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    User,
    Assistant,
}

impl Message {
    pub(super) fn user(content: Vec<Value>) -> Self {
        let role = Role::User;
        Self { role, content }
    }

    pub(super) fn assistant(content: Vec<Value>) -> Self {
        let role = Role::Assistant;
        Self { role, content }
    }
}

/// An open conversation; no other process can open it.
#[derive(Debug)]
pub(super) struct Session {
    id: AgentSessionId,
    file: File,
    /// Length up to which the file holds whole lines.
    length: u64,
    messages: Vec<Message>,
}

/// Why a conversation cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// There is no conversation of that id.
    #[error("there is no conversation {0}")]
    Missing(AgentSessionId),
    /// Its file does not hold messages.
    #[error("conversation {0} cannot be read: line {1} is not a message")]
    Damaged(AgentSessionId, usize),
    /// Another runner has it open.
    #[error("conversation {0} is in use by another run")]
    InUse(AgentSessionId),
    /// The system refused.
    #[error("cannot open {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

impl SessionError {
    /// Whether a new conversation may be begun instead.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Damaged(..))
    }

    /// The error with its cause, in one line.
    pub(super) fn describe(&self) -> String {
        match self.source() {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }
}

impl Session {
    /// Begins a conversation.
    ///
    /// # Errors
    /// The home cannot be written.
    pub(super) fn create(home: &Path) -> Result<Self, SessionError> {
        let folder = folder(home);
        let io_error = |source| SessionError::Io(folder.clone(), source);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(io_error)?;
        let id: AgentSessionId = Uuid::new_v4()
            .to_string()
            .parse()
            .map_err(|_| io_error(io::ErrorKind::InvalidInput.into()))?;
        let file = options()
            .create_new(true)
            .open(file_of(home, &id))
            .map_err(io_error)?;
        lock(&file, &id)?;
        Ok(Self {
            id,
            file,
            length: 0,
            messages: Vec::new(),
        })
    }

    /// Opens a conversation where it stopped.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub(super) fn resume(home: &Path, id: &AgentSessionId) -> Result<Self, SessionError> {
        let path = file_of(home, id);
        let mut file = options().open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SessionError::Missing(id.clone()),
            _ => SessionError::Io(path.clone(), error),
        })?;
        lock(&file, id)?;
        let mut bytes = Vec::new();
        let read = (&mut file).take(MAX_BYTES).read_to_end(&mut bytes);
        read.map_err(|error| SessionError::Io(path.clone(), error))?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let mut session = Self {
            id: id.clone(),
            file,
            length: whole as u64,
            messages: read_lines(&bytes[..whole], id)?,
        };
        session
            .cut_back()
            .map_err(|error| SessionError::Io(path.clone(), error))?;
        session
            .close_open_calls()
            .map_err(|error| SessionError::Io(path, error))?;
        Ok(session)
    }

    pub(super) fn id(&self) -> &AgentSessionId {
        &self.id
    }

    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Adds a message, on disk first.
    ///
    /// # Errors
    /// It could not be written; the conversation is as before.
    pub(super) fn append(&mut self, message: Message) -> io::Result<()> {
        let mut line = serde_json::to_vec(&message)?;
        line.push(b'\n');
        let written = self
            .file
            .write_all(&line)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.cut_back()?;
            return Err(error);
        }
        self.length += line.len() as u64;
        self.messages.push(message);
        Ok(())
    }

    fn cut_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        Ok(())
    }

    /// Answers tool calls that a kill left without a result; the API demands one
    /// for every call.
    fn close_open_calls(&mut self) -> io::Result<()> {
        let Some(last) = self
            .messages
            .last()
            .filter(|last| last.role == Role::Assistant)
        else {
            return Ok(());
        };
        let calls = last
            .content
            .iter()
            .filter(|block| block["type"] == "tool_use");
        let results: Vec<_> = calls
            .map(|call| {
                json!({
                    "type": "tool_result",
                    "tool_use_id": call["id"],
                    "content": "The run ended before this tool did; it may have done its work in part.",
                    "is_error": true,
                })
            })
            .collect();
        if results.is_empty() {
            return Ok(());
        }
        self.append(Message::user(results))
    }
}

fn folder(home: &Path) -> PathBuf {
    home.join(".drawbridge").join("sessions")
}

/// A session id cannot hold a path separator, so this stays in the folder.
fn file_of(home: &Path, id: &AgentSessionId) -> PathBuf {
    folder(home).join(format!("{id}.jsonl"))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn lock(file: &File, id: &AgentSessionId) -> Result<(), SessionError> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(SessionError::InUse(id.clone())),
        // A file system without locks: one runner per group is then the host's duty.
        Err(TryLockError::Error(_)) | Ok(()) => Ok(()),
    }
}

fn read_lines(bytes: &[u8], id: &AgentSessionId) -> Result<Vec<Message>, SessionError> {
    let lines = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .enumerate()
        .map(|(index, line)| {
            from_slice_lossy(line).map_err(|_| SessionError::Damaged(id.clone(), index + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests;
