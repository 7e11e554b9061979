//! Takes request files out of the agent's reach, a bounded number at a time.
//!
//! A file is moved to a folder of the host's before it is read, so that it is
//! handled once however often the agent touches it, and is found again when the
//! launcher is killed in between.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::time::Duration;

use drawbridge_runner::FolderWatch;
use drawbridge_shared::ipc::{MESSAGES, TASKS};
use tokio::time::{Instant, sleep_until};

use crate::requests::Request;
use crate::spec::User;
use crate::state::{Folder, Group, is_request_name};

/// The interval at which the folders are read when no file event comes.
const POLL: Duration = Duration::from_millis(500);
/// Largest request, in bytes.
const MAX_REQUEST: u64 = 1024 * 1024;
/// Most requests of one second; what comes faster waits on disk.
const PER_SECOND: usize = 100;
/// Shortest time between two looks, however many events come.
const BREATH: Duration = Duration::from_millis(5);
/// Most bytes of requests that are taken at one look, but for the last one.
const MAX_BATCH: usize = 8 * 1024 * 1024;
/// Most entries of a folder that are looked at at once.
const MAX_ENTRIES: usize = 10_000;
/// Most files that are kept because they cannot be read.
const MAX_REJECTED: usize = 100;

/// The requests of one group, on their way in.
#[derive(Debug)]
pub(super) struct Inbox {
    ipc: Folder,
    taken: Folder,
    rejected: Folder,
    owner: Option<User>,
    watches: [FolderWatch; 2],
    rate: Rate,
    /// Whether the folders have to be looked at.
    is_due: bool,
    /// Requests that a killed launcher had claimed and not handled, the latest first.
    left: Vec<OsString>,
}

/// The number of requests that may still come in the present second.
#[derive(Debug)]
struct Rate {
    second: Instant,
    left: usize,
    next_read: Instant,
}

/// A request file that is out of the agent's reach.
#[derive(Debug)]
pub(super) struct ClaimedFile {
    /// The file that the answer belongs to; none waits for an answer to a
    /// request of an earlier run.
    pub(super) answer: Option<String>,
    /// Its name among the files that were taken.
    name: OsString,
}

/// The request in a claimed file, or the reason why it cannot be read.
pub(super) type Content = Result<Request, String>;

impl ClaimedFile {
    /// The embedding program's name for the request.
    pub(super) fn id(&self) -> String {
        let stem = Path::new(&self.name).file_stem().unwrap_or(&self.name);
        stem.to_string_lossy().into_owned()
    }
}

impl Inbox {
    pub(super) fn open(group: &Group) -> io::Result<Self> {
        let ipc = Folder::open(&group.ipc())?;
        for name in [MESSAGES, TASKS] {
            ipc.folder(name, group.owner())?;
        }
        let watch = |name| FolderWatch::new(&group.ipc().join(name), POLL);
        let own = Folder::open(group.folder())?;
        Ok(Self {
            ipc,
            taken: own.folder("requests", None)?,
            rejected: own.folder("rejected", None)?,
            owner: group.owner(),
            watches: [watch(MESSAGES), watch(TASKS)],
            rate: Rate::new(),
            is_due: true,
            left: Vec::new(),
        })
    }

    /// Waits until there may be requests, and they may come.
    pub(super) async fn changed(&mut self) {
        let [messages, tasks] = &mut self.watches;
        if !self.is_due {
            tokio::select! {
                () = messages.changed() => {}
                () = tasks.changed() => {}
            }
            // Another event may end this wait; that one here is not forgotten.
            self.is_due = true;
        }
        sleep_until(self.rate.next_read).await;
    }

    /// Looks at the folders even if no event comes.
    pub(super) const fn look_again(&mut self) {
        self.is_due = true;
    }

    /// Whether the folders have to be looked at.
    pub(super) const fn is_due(&self) -> bool {
        self.is_due
    }

    /// Looks for what a killed launcher had taken and not handled; it comes
    /// before all else.
    pub(super) fn recover(&mut self) -> io::Result<()> {
        self.left = self.taken.names(MAX_ENTRIES)?;
        self.left.reverse();
        Ok(())
    }

    /// Takes what waits and there is room for, in the order of the names. The
    /// rest is looked at again.
    pub(super) fn take(&mut self, room: usize) -> io::Result<Vec<(ClaimedFile, Content)>> {
        if room == 0 || !std::mem::take(&mut self.is_due) {
            return Ok(Vec::new());
        }
        let mut batch = Batch::of(room);
        self.take_left(&mut batch)?;
        if !self.left.is_empty() {
            self.is_due = true;
            return Ok(batch.taken);
        }
        let mut waiting = Vec::new();
        for folder in [MESSAGES, TASKS] {
            // Opened anew, as the agent may have made it anew.
            let names = self.ipc.folder(folder, self.owner)?.names(MAX_ENTRIES)?;
            let requests = names.into_iter().filter(|name| is_request_name(name));
            waiting.extend(requests.map(|name| (name, folder)));
        }
        waiting.sort_unstable();
        let count = self.rate.admit(waiting.len().min(batch.room()));
        self.is_due = count < waiting.len();
        waiting.truncate(count);
        for (name, folder) in waiting {
            if batch.is_full() {
                self.is_due = true;
                break;
            }
            let from = self.ipc.folder(folder, self.owner)?;
            match self.take_one(&from, &name) {
                Ok(taken) => batch.add(&self.taken, taken),
                // The agent may have removed it itself.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(batch.taken)
    }

    /// A question is not among it: who asked is gone.
    fn take_left(&mut self, batch: &mut Batch) -> io::Result<()> {
        while !batch.is_full()
            && let Some(name) = self.left.pop()
        {
            let taken = ClaimedFile { answer: None, name };
            batch.add(&self.taken, taken);
            if let Some((taken, content)) = batch.taken.pop() {
                if content.as_ref().is_ok_and(Request::is_question) {
                    self.taken.remove(&taken.name)?;
                } else {
                    batch.taken.push((taken, content));
                }
            }
        }
        Ok(())
    }

    fn take_one(&self, from: &Folder, name: &OsStr) -> io::Result<ClaimedFile> {
        // A folder could not be got rid of; it stays where it is.
        if from.is_folder(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut new_name = name.to_owned();
        let mut number = 0_u32;
        while self.taken.has(&new_name) {
            number += 1;
            new_name = format!("{number}~").into();
            new_name.push(name);
        }
        from.move_to(name, &self.taken, &new_name)?;
        Ok(ClaimedFile {
            answer: name.to_str().map(str::to_owned),
            name: new_name,
        })
    }

    /// Forgets a request that was handled.
    pub(super) fn done(&self, taken: &ClaimedFile) -> io::Result<()> {
        self.taken.remove(&taken.name)
    }

    /// Sets a file aside that is no request, with the reason beside it. When
    /// there are many already, it is removed: nobody reads a hundred.
    pub(super) fn reject(&self, taken: &ClaimedFile, reason: &str) -> io::Result<()> {
        let is_full = self.rejected.names(2 * MAX_REJECTED)?.len() >= 2 * MAX_REJECTED;
        // A large file or a folder is not worth its room.
        let is_small = self.taken.read(&taken.name, MAX_REQUEST).is_ok();
        if is_full || !is_small {
            return self.taken.remove(&taken.name);
        }
        let name = &taken.name;
        self.taken.move_to(name, &self.rejected, name)?;
        let note = format!("{}.reason", name.to_string_lossy());
        self.rejected
            .write(&note, format!("{reason}\n").as_bytes(), None)
    }
}

/// Requests of one look.
struct Batch {
    taken: Vec<(ClaimedFile, Content)>,
    bytes: usize,
    /// Most requests of it.
    most: usize,
}

impl Batch {
    const fn of(most: usize) -> Self {
        Self {
            taken: Vec::new(),
            bytes: 0,
            most,
        }
    }

    const fn room(&self) -> usize {
        self.most.saturating_sub(self.taken.len())
    }

    const fn is_full(&self) -> bool {
        self.bytes >= MAX_BATCH || self.room() == 0
    }

    fn add(&mut self, folder: &Folder, taken: ClaimedFile) {
        let bytes = folder.read(&taken.name, MAX_REQUEST);
        self.bytes += bytes.as_ref().map_or(0, Vec::len);
        let content = bytes.and_then(|bytes| {
            Request::parse(&bytes).map_err(|error| format!("not a request: {error}"))
        });
        self.taken.push((taken, content));
    }
}

impl Rate {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            second: now,
            left: PER_SECOND,
            next_read: now,
        }
    }

    /// The number of `wanted` requests that may come now.
    fn admit(&mut self, wanted: usize) -> usize {
        let now = Instant::now();
        let end = self.second + Duration::from_secs(1);
        if now >= end {
            (self.second, self.left) = (now, PER_SECOND);
        }
        let admitted = wanted.min(self.left);
        self.left -= admitted;
        self.next_read = if admitted < wanted {
            self.second + Duration::from_secs(1)
        } else {
            now + BREATH
        };
        admitted
    }
}
