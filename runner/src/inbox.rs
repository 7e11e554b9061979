//! The host's messages to a running conversation, as files.
//!
//! File events wake the reader at once; a poll covers file systems that send
//! none. A message file is removed only when the agent has confirmed it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use drawbridge_shared::ids::RunId;
use drawbridge_shared::ipc::{HostMessage, InputFolder, Pending, TakeError, TakenFile};
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior};

use crate::agent::{MessageId, UserMessage};

/// How often the folder is read when no file event comes; NanoClaw's interval.
const POLL: Duration = Duration::from_millis(500);
/// How much earlier than the clock a file's time may be: the kernel stamps files
/// with the time of its last tick.
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// The `input` folder during one run.
#[derive(Debug)]
pub(crate) struct Inbox {
    folder: InputFolder,
    /// Start of this run, by the clock that stamps files.
    started: SystemTime,
    run_id: Option<RunId>,
    waiting: VecDeque<Pending>,
    /// Files that could not be taken, so that each is reported once.
    stuck: BTreeSet<Pending>,
    /// Files behind each message that the agent has not confirmed.
    taken: HashMap<MessageId, Vec<TakenFile>>,
    changed: Arc<Notify>,
    poll: Interval,
    /// File events come as long as it lives.
    _watcher: Option<RecommendedWatcher>,
}

impl Inbox {
    /// Opens the folder; messages that an earlier runner took and did not
    /// confirm wait again.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub(crate) fn open(ipc: &Path, started: SystemTime, run_id: Option<RunId>) -> io::Result<Self> {
        let folder = InputFolder::open(ipc)?;
        let recovered = folder.recover()?;
        if recovered > 0 {
            tracing::info!("{recovered} messages of an earlier run are delivered again");
        }
        let changed = Arc::new(Notify::new());
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            _watcher: watch(folder.path(), Arc::clone(&changed)),
            folder,
            started: started - CLOCK_TICK,
            run_id,
            waiting: VecDeque::new(),
            stuck: BTreeSet::new(),
            taken: HashMap::new(),
            changed,
            poll,
        })
    }

    /// Waits until the folder may have changed.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            () = self.changed.notified() => {}
            _ = self.poll.tick() => {}
        }
    }

    /// Takes all waiting messages behind the prompt, each on a line of its own,
    /// as NanoClaw does at start.
    pub(crate) fn join_to(&mut self, prompt: String) -> UserMessage {
        let mut joined = UserMessage {
            id: MessageId::random(),
            text: prompt,
        };
        let mut files = Vec::new();
        while let Some((file, text)) = self.take_next() {
            if !joined.text.is_empty() {
                joined.text.push('\n');
            }
            joined.text.push_str(&text);
            files.push(file);
        }
        self.taken.insert(joined.id, files);
        joined
    }

    /// Takes the next message, if one waits.
    pub(crate) fn take(&mut self) -> Option<UserMessage> {
        let (file, text) = self.take_next()?;
        let id = MessageId::random();
        self.taken.insert(id, vec![file]);
        Some(UserMessage { id, text })
    }

    /// Removes the files of a message that the agent has.
    pub(crate) fn confirm(&mut self, id: MessageId) {
        for file in self.taken.remove(&id).unwrap_or_default() {
            if let Err(error) = self.folder.confirm(&file) {
                tracing::warn!("cannot remove {}: {error}", file.name());
            }
        }
    }

    /// Whether the host asked to end this conversation. The request is removed
    /// when it is seen; one that is meant for an earlier run counts for nothing.
    pub(crate) fn take_close(&self) -> bool {
        let request = match self.folder.close_request() {
            Ok(None) => return false,
            Ok(Some(request)) => request,
            Err(error) => {
                tracing::warn!("cannot read the request to close: {error}");
                return false;
            }
        };
        if let Err(error) = self.folder.clear_close() {
            tracing::warn!("cannot remove the request to close: {error}");
        }
        let is_ours = match (&request.run_id, &self.run_id) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => request.modified >= self.started,
        };
        if !is_ours {
            tracing::info!("a request to close from before this run is ignored");
        }
        is_ours
    }

    fn take_next(&mut self) -> Option<(TakenFile, String)> {
        loop {
            if self.waiting.is_empty() {
                self.read_folder();
            }
            let next = self.waiting.pop_front()?;
            match self.folder.take(&next) {
                Ok(file) => {
                    if let HostMessage::Message { text, .. } = &file.message {
                        let text = text.clone();
                        return Some((file, text));
                    }
                }
                Err(TakeError::Gone) => {}
                Err(error @ TakeError::Rejected(_)) => tracing::warn!("{error}"),
                Err(error @ TakeError::Io { .. }) => {
                    tracing::warn!("{error}");
                    self.stuck.insert(next);
                }
            }
        }
    }

    fn read_folder(&mut self) {
        match self.folder.pending() {
            Ok(mut pending) => {
                self.stuck.retain(|file| pending.contains(file));
                pending.retain(|file| !self.stuck.contains(file));
                self.waiting = pending.into();
            }
            Err(error) => tracing::warn!("cannot read the input folder: {error}"),
        }
    }
}

/// Wakes the reader when something appears in the folder.
fn watch(folder: &Path, changed: Arc<Notify>) -> Option<RecommendedWatcher> {
    let appears = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::Create(_)
                | EventKind::Modify(ModifyKind::Name(_))
                | EventKind::Access(AccessKind::Close(AccessMode::Write))
        )
    };
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| appears(&event.kind)) {
            changed.notify_one();
        }
    });
    let watching = watcher.and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watching
        .inspect_err(|error| tracing::warn!("no file events, polling instead: {error}"))
        .ok()
}
