//! Taking messages out of a folder without losing one.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{CLAIMED, CLOSE, HostMessage, MAX_MESSAGE_BYTES, REJECTED};
use crate::file::{open_regular, write_atomic};
use crate::ids::RunId;
use crate::json;

/// The `input` folder of a run, read by the runner.
///
/// The agent can write here too, so a name may be a symlink, a pipe or a
/// folder. Only regular files are read; all else is quarantined.
#[derive(Debug)]
pub struct InputFolder {
    input: PathBuf,
    claimed: PathBuf,
    rejected: PathBuf,
}

/// A file that waits in the folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pending(OsString);

/// A message delivered and not yet confirmed; its file is in `.taken`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedFile {
    name: OsString,
    /// The file's content.
    pub message: HostMessage,
}

impl ClaimedFile {
    /// Name of the file in `.taken`, for logs.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }
}

/// A request to end the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseRequest {
    /// The run it is meant for. NanoClaw's host writes an empty file.
    pub run_id: Option<RunId>,
    /// When it was made.
    pub modified: SystemTime,
}

/// The reason why a waiting file was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Somebody else took or removed it; nothing is lost.
    #[error("the file is gone")]
    Gone,
    /// It is not a readable message; it is in `.rejected` now.
    #[error("{} was quarantined in {REJECTED}: {}", .0.name, .0.reason)]
    Rejected(Refusal),
    /// It could not be moved or read; it is still where it was.
    #[error("cannot take {name:?}")]
    Io {
        /// The file.
        name: OsString,
        /// The system's error.
        source: io::Error,
    },
}

/// A quarantined file, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the file in `.rejected`.
    pub name: String,
    /// The error in it; also in the file of the same name plus `.reason`.
    pub reason: String,
}

impl InputFolder {
    /// Opens `input` below an IPC folder, and makes what is missing of it.
    ///
    /// # Errors
    /// The folder cannot be made or is not writable.
    pub fn open(ipc: &Path) -> io::Result<Self> {
        let input = ipc.join(super::INPUT);
        let (claimed, rejected) = (input.join(CLAIMED), input.join(REJECTED));
        fs::create_dir_all(&claimed)?;
        fs::create_dir_all(&rejected)?;
        Ok(Self {
            input,
            claimed,
            rejected,
        })
    }

    /// The folder to watch.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.input
    }

    /// Files that wait, in the order of their names.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn pending(&self) -> io::Result<Vec<Pending>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.input)? {
            let name = entry?.file_name();
            let bytes = name.as_bytes();
            if bytes.ends_with(b".json") && !bytes.starts_with(b".") {
                names.push(Pending(name));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Puts what an earlier runner took and did not confirm back among the
    /// waiting files, so that it is delivered again. Returns how many.
    ///
    /// # Errors
    /// A file cannot be moved.
    pub fn recover(&self) -> io::Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir(&self.claimed)? {
            let name = entry?.file_name();
            move_to_free_name(&self.claimed.join(&name), &self.input, &name)?;
            count += 1;
        }
        Ok(count)
    }

    /// When a waiting file was written.
    ///
    /// # Errors
    /// It is gone.
    pub fn modified(&self, file: &Pending) -> io::Result<SystemTime> {
        fs::symlink_metadata(self.input.join(&file.0))?.modified()
    }

    /// The message in a waiting file, if it is one; the file stays.
    #[must_use]
    pub fn peek(&self, file: &Pending) -> Option<HostMessage> {
        read_message(&self.input.join(&file.0)).ok()
    }

    /// Moves a waiting file to `.taken` and reads it there.
    ///
    /// # Errors
    /// See [`ClaimError`]; in no case is the content lost.
    pub fn take(&self, file: &Pending) -> Result<ClaimedFile, ClaimError> {
        let io_error = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => ClaimError::Gone,
            _ => ClaimError::Io {
                name: file.0.clone(),
                source,
            },
        };
        let name = move_to_free_name(&self.input.join(&file.0), &self.claimed, &file.0)
            .map_err(io_error)?;
        match read_message(&self.claimed.join(&name)) {
            Ok(message) => Ok(ClaimedFile { name, message }),
            Err(reason) => {
                let refusal = self.reject(&name, reason).map_err(io_error)?;
                Err(ClaimError::Rejected(refusal))
            }
        }
    }

    /// Removes a message that the agent has confirmed.
    ///
    /// # Errors
    /// The file cannot be removed; it will be delivered again after a restart.
    pub fn confirm(&self, file: &ClaimedFile) -> io::Result<()> {
        fs::remove_file(self.claimed.join(&file.name))
    }

    /// Takes the host's request to end the conversation, if there is one.
    ///
    /// It is moved away before it is looked at: a request that is written in
    /// the meantime is then a file of its own, and is not removed unseen.
    ///
    /// # Errors
    /// It cannot be moved; it is still there.
    pub fn take_close(&self) -> io::Result<Option<CloseRequest>> {
        let name = OsStr::new(CLOSE);
        let name = match move_to_free_name(&self.input.join(name), &self.claimed, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            moved => moved?,
        };
        let path = self.claimed.join(&name);
        let metadata = fs::symlink_metadata(&path)?;
        if !metadata.is_file() {
            self.reject(&name, "not a regular file".to_owned())?;
            return Ok(None);
        }
        let request = CloseRequest {
            run_id: read_regular_file(&path, 100)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok()),
            modified: metadata.modified()?,
        };
        fs::remove_file(&path)?;
        Ok(Some(request))
    }

    fn reject(&self, name: &OsStr, reason: String) -> io::Result<Refusal> {
        let kept = move_to_free_name(&self.claimed.join(name), &self.rejected, name)?;
        let mut note = kept.clone();
        note.push(".reason");
        write_atomic(&self.rejected.join(note), format!("{reason}\n").as_bytes())?;
        Ok(Refusal {
            name: kept.to_string_lossy().into_owned(),
            reason,
        })
    }
}

/// Moves a file into a folder, under a name that no other file has there.
fn move_to_free_name(from: &Path, folder: &Path, name: &OsStr) -> io::Result<OsString> {
    let mut candidate = name.to_owned();
    for number in 1..=1000 {
        let to = folder.join(&candidate);
        match rename_no_replace(from, &to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let stem = Path::new(name).file_stem().unwrap_or(name);
                candidate = stem.to_owned();
                candidate.push(format!("~{number}.json"));
            }
            other => return other.map(|()| candidate),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(all(target_os = "linux", not(drawbridge_portable)))]
fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, from, cwd, to, rustix::fs::RenameFlags::NOREPLACE) {
        // Some network and overlay file systems do not know the flag.
        Err(rustix::io::Errno::INVAL) if !to.exists() => fs::rename(from, to),
        other => Ok(other?),
    }
}

#[cfg(any(not(target_os = "linux"), drawbridge_portable))]
fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    if to.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// Reads a message file, or returns the reason why it is not valid.
fn read_message(path: &Path) -> Result<HostMessage, String> {
    let bytes = read_regular_file(path, MAX_MESSAGE_BYTES)?;
    let message =
        json::from_slice_lossy(&bytes).map_err(|error| format!("not a message: {error}"))?;
    match &message {
        HostMessage::Message { text, attachments } if text.is_empty() && attachments.is_empty() => {
            Err("the text is empty".to_owned())
        }
        _ => Ok(message),
    }
}

/// Reads a file that the agent may have put there: no link, no pipe, no flood.
fn read_regular_file(path: &Path, max_bytes: u64) -> Result<Vec<u8>, String> {
    let file = open_regular(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => error.to_string(),
        _ => format!("cannot be opened: {error}"),
    })?;
    let mut bytes = Vec::new();
    file.take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!("larger than {max_bytes} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
