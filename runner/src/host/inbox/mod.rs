//! The host's messages to a running conversation, as files.
//!
//! File events wake the reader at once; a poll covers file systems that send
//! none. A message file is removed only when the agent has confirmed it. A
//! request, such as `interrupt`, is removed before it is carried out: one that
//! came a run too late would do harm.

mod attachment;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use drawbridge_shared::ids::RunId;
use drawbridge_shared::ipc::{ClaimError, ClaimedFile, HostMessage, InputFolder, Pending};

use crate::host::message::{MessageId, UserMessage};
use crate::host::watch::FolderWatch;

/// Interval of the poll for when no file event comes; NanoClaw's.
const POLL: Duration = Duration::from_millis(500);
/// Tolerance for file times earlier than the clock: the kernel stamps files
/// with the time of its last tick.
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// Messages that are joined to the prompt at most; the others follow it.
const MAX_JOINED: usize = 1000;
/// Bytes beyond which no further message is joined to the prompt.
const MAX_JOINED_BYTES: usize = 8 * 1024 * 1024;

/// The `input` folder during one run.
#[derive(Debug)]
pub(crate) struct Inbox {
    folder: InputFolder,
    /// Where attachments are.
    workspace: PathBuf,
    /// Start of this run, by the clock that stamps files.
    started: SystemTime,
    run_id: Option<RunId>,
    waiting: VecDeque<Pending>,
    /// Files that could not be taken, so that each is reported once.
    stuck: BTreeSet<Pending>,
    /// Files that wait and are known not to be urgent.
    not_urgent: BTreeSet<Pending>,
    /// Files behind each message that the agent has not confirmed.
    claimed: HashMap<MessageId, Vec<ClaimedFile>>,
    watch: FolderWatch,
}

/// A file of the host.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message for the conversation.
    Message(UserMessage),
    /// A request that is about the conversation.
    Request(HostMessage),
}

impl Inbox {
    /// Opens the folder; messages that an earlier runner took and did not
    /// confirm wait again.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub(crate) fn open(
        ipc: &Path,
        workspace: &Path,
        started: SystemTime,
        run_id: Option<RunId>,
    ) -> io::Result<Self> {
        let folder = InputFolder::open(ipc)?;
        let recovered = folder.recover()?;
        if recovered > 0 {
            tracing::info!("{recovered} messages of an earlier run are delivered again");
        }
        Ok(Self {
            watch: FolderWatch::new(folder.path(), POLL),
            folder,
            workspace: workspace.to_owned(),
            started: started - CLOCK_TICK,
            run_id,
            waiting: VecDeque::new(),
            stuck: BTreeSet::new(),
            not_urgent: BTreeSet::new(),
            claimed: HashMap::new(),
        })
    }

    /// Waits until the folder may have changed.
    pub(crate) async fn changed(&mut self) {
        self.watch.changed().await;
    }

    /// Takes the waiting messages behind the prompt, each on a line of its own,
    /// as NanoClaw does at start; what is too much for one turn waits on. Requests
    /// from before the run, but for the choice of a model, have nothing to be
    /// about.
    pub(crate) fn join_to(&mut self, prompt: String) -> (UserMessage, Vec<HostMessage>) {
        let mut joined = UserMessage {
            id: MessageId::random(),
            text: prompt,
        };
        let mut files = Vec::new();
        let mut requests = Vec::new();
        self.read_folder(true);
        for next in std::mem::take(&mut self.waiting) {
            let is_within_bounds = files.len() < MAX_JOINED && joined.text.len() < MAX_JOINED_BYTES;
            if !is_within_bounds
                && matches!(self.folder.peek(&next), Some(HostMessage::Message { .. }))
            {
                continue;
            }
            let Some(file) = self.take_one(next) else {
                continue;
            };
            match &file.message {
                HostMessage::Message { text, attachments } => {
                    if !joined.text.is_empty() {
                        joined.text.push('\n');
                    }
                    let text = attachment::join(text, attachments, &self.workspace);
                    joined.text.push_str(&text);
                    files.push(file);
                }
                request => {
                    if matches!(request, HostMessage::SetModel { .. }) {
                        requests.push(request.clone());
                    }
                    self.remove(&file);
                }
            }
        }
        self.claimed.insert(joined.id, files);
        (joined, requests)
    }

    /// Claims the next file. While no messages are accepted, only an urgent one
    /// is claimed, ahead of all that wait: a request that ends a turn must not
    /// wait for its end.
    pub(crate) fn take(&mut self, accepts_messages: bool) -> Option<Incoming> {
        let file = if accepts_messages {
            self.take_next(true)?
        } else {
            // The list of urgent files is not valid for the next call.
            self.waiting.clear();
            let urgent = self.take_next(false);
            self.waiting.clear();
            urgent?
        };
        if let HostMessage::Message { text, attachments } = &file.message {
            let message = UserMessage {
                id: MessageId::random(),
                text: attachment::join(text, attachments, &self.workspace),
            };
            self.claimed.insert(message.id, vec![file]);
            return Some(Incoming::Message(message));
        }
        self.remove(&file);
        Some(Incoming::Request(file.message))
    }

    /// Removes the files of a message that the agent has.
    pub(crate) fn confirm(&mut self, id: MessageId) {
        for file in self.claimed.remove(&id).unwrap_or_default() {
            self.remove(&file);
        }
    }

    /// Whether the host asked to end this conversation. The request is removed
    /// when it is seen; one that is meant for an earlier run counts for nothing.
    pub(crate) fn take_close(&self) -> bool {
        let request = match self.folder.take_close() {
            Ok(None) => return false,
            Ok(Some(request)) => request,
            Err(error) => {
                tracing::warn!("cannot take the request to close: {error}");
                return false;
            }
        };
        let is_ours = match (&request.run_id, &self.run_id) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => request.modified >= self.started,
        };
        if !is_ours {
            tracing::info!("a request to close from before this run is ignored");
        }
        is_ours
    }

    fn remove(&self, file: &ClaimedFile) {
        if let Err(error) = self.folder.confirm(file) {
            tracing::warn!("cannot remove {}: {error}", file.name());
        }
    }

    fn take_next(&mut self, all: bool) -> Option<ClaimedFile> {
        loop {
            if self.waiting.is_empty() {
                self.read_folder(all);
            }
            let next = self.waiting.pop_front()?;
            if !all && self.can_wait(&next) {
                continue;
            }
            if let Some(file) = self.take_one(next) {
                return Some(file);
            }
        }
    }

    fn take_one(&mut self, file: Pending) -> Option<ClaimedFile> {
        match self.folder.take(&file) {
            Ok(claimed) => return Some(claimed),
            Err(ClaimError::Gone) => {}
            Err(error @ ClaimError::Rejected(_)) => tracing::warn!("{error}"),
            Err(error @ ClaimError::Io { .. }) => {
                tracing::warn!("{error}");
                self.stuck.insert(file);
            }
        }
        None
    }

    /// Whether a file is not urgent. One that cannot be read is claimed at
    /// once, to be quarantined.
    fn can_wait(&mut self, file: &Pending) -> bool {
        let can_wait = match self.folder.peek(file) {
            None | Some(HostMessage::Interrupt | HostMessage::Cancel) => false,
            Some(_) => true,
        };
        if can_wait {
            self.not_urgent.insert(file.clone());
        }
        can_wait
    }

    /// Lists the waiting files, sorted; or only those that may be urgent.
    fn read_folder(&mut self, all: bool) {
        match self.folder.pending() {
            Ok(mut pending) => {
                self.stuck
                    .retain(|file| pending.binary_search(file).is_ok());
                self.not_urgent
                    .retain(|file| pending.binary_search(file).is_ok());
                pending.retain(|file| {
                    let can_wait = !all && self.not_urgent.contains(file);
                    !can_wait && !self.stuck.contains(file)
                });
                self.waiting = pending.into();
            }
            Err(error) => tracing::warn!("cannot read the input folder: {error}"),
        }
    }
}
