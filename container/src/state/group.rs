//! A group: workspace, home and conversation that outlive a run.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use drawbridge_shared::ids::{AgentSessionId, GroupName, RunId};
use drawbridge_shared::ipc::{self, HostMessage, write_atomic};
use drawbridge_shared::protocol::AgentKind;

use super::{Folder, State, create_private, try_lock};
use crate::error::{Context, Error, Result};
use crate::spec::User;

/// Folder in a group's folder for messages that are ready to be handed over.
const OUTBOX: &str = "outbox";

/// The folders of one group, held by one run at a time.
#[derive(Debug)]
pub(crate) struct Group {
    name: GroupName,
    folder: PathBuf,
    /// The agent's user, where that is not the launcher's.
    owner: Option<User>,
    /// Held until the group is dropped; a group of one run needs none.
    _lock: Option<File>,
}

impl State {
    /// Opens a group that is kept, and makes it if it is new.
    pub(crate) fn group(&self, name: &GroupName) -> Result<Group> {
        let folder = self.root().join("groups").join(name.as_str());
        let failed = || Error::not_started(format!("cannot open group {name}"));
        create_private(&folder).context(failed)?;
        let lock = try_lock(&folder.join("lock")).context(failed)?;
        let lock = lock.ok_or_else(|| {
            Error::not_started(format!("group {name} is in use by another run"))
                .hint("wait for that run to end, or choose another --group")
        })?;
        Group::prepare(name.clone(), folder, Some(lock)).context(failed)
    }
}

impl State {
    /// Whether a run of any program holds the group at present.
    pub(crate) fn is_in_use(&self, name: &GroupName) -> bool {
        let lock = self.root().join("groups").join(name.as_str()).join("lock");
        let lock = File::options().write(true).open(lock);
        lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }
}

/// The messages of a group that are ready and not handed over.
#[derive(Debug)]
pub(crate) struct Outbox(PathBuf);

impl Outbox {
    pub(crate) fn of(state: &State, group: &GroupName) -> Self {
        let groups = state.root().join("groups");
        Self(groups.join(group.as_str()).join(OUTBOX))
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        self.0.join(file).exists()
    }

    /// Whether a message that was made ready was handed over. Without the folder,
    /// whoever removed it has removed the message too.
    pub(crate) fn handed_over(&self, file: &str) -> bool {
        self.0.is_dir() && !self.has(file)
    }

    /// Removes what is there.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Group {
    /// A group that is removed together with the folder of its run.
    pub(super) fn of_one_run(folder: PathBuf) -> io::Result<Self> {
        let name = "once".parse().map_err(io::Error::other)?;
        Self::prepare(name, folder, None)
    }

    fn prepare(name: GroupName, folder: PathBuf, lock: Option<File>) -> io::Result<Self> {
        let group = Self {
            name,
            folder,
            owner: None,
            _lock: lock,
        };
        for path in [group.workspace(), group.home(), group.ipc()] {
            create_private(&path)?;
        }
        // A request to end an earlier conversation is not meant for this one, and
        // an earlier agent's heartbeat is not this one's. Both are the agent's to
        // change, so they are reached step by step.
        group.input()?.remove(ipc::CLOSE.as_ref())?;
        Folder::open(&group.ipc())?.remove(ipc::HEARTBEAT.as_ref())?;
        Ok(group)
    }

    /// Gives the folders to the user the agent runs as.
    ///
    /// Only root needs this: any other launcher runs agents under its own ids.
    pub(crate) fn give_to(&mut self, user: User) -> Result<()> {
        self.owner = Some(user);
        let input = self.ipc().join(ipc::INPUT);
        for folder in [self.workspace(), self.home(), self.ipc(), input] {
            give(&folder, user).context(|| {
                let folder = folder.display();
                Error::not_started(format!("cannot give {folder} to user {user}"))
            })?;
        }
        Ok(())
    }

    pub(crate) const fn name(&self) -> &GroupName {
        &self.name
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.folder.join("workspace")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    pub(crate) fn ipc(&self) -> PathBuf {
        self.folder.join("ipc")
    }

    /// The folder around all of it, which is the launcher's alone.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The agent's user, where that is not the launcher's.
    pub(crate) const fn owner(&self) -> Option<User> {
        self.owner
    }

    /// The agent can write to it, so it is opened step by step.
    fn input(&self) -> io::Result<Folder> {
        Folder::open(&self.ipc())?.folder(ipc::INPUT, self.owner)
    }

    /// Hands a message to the running agent.
    pub(crate) fn send(&self, message: &HostMessage) -> io::Result<()> {
        let json = serde_json::to_vec(message)?;
        self.deliver(&ipc::message_file_name(), &json)
    }

    /// Makes a message ready where the agent cannot reach it.
    pub(crate) fn stage(&self, file: &str, message: &HostMessage) -> io::Result<()> {
        let json = serde_json::to_vec(message)?;
        self.outbox()?.write(file, &json, self.owner)
    }

    /// Gives the running agent what was made ready. The file is in one of the two
    /// folders at any moment, and only the launcher can take it out of the first:
    /// so it shows for ever whether this was done.
    pub(crate) fn hand_over(&self, file: &str) -> io::Result<HostMessage> {
        let (outbox, input) = (self.outbox()?, self.input()?);
        let bytes = outbox.read(file.as_ref(), ipc::MAX_MESSAGE_BYTES);
        let message = serde_json::from_slice(&bytes.map_err(io::Error::other)?)?;
        outbox.move_to(file.as_ref(), &input, file.as_ref())?;
        outbox.sync()?;
        input.sync()?;
        Ok(message)
    }

    fn outbox(&self) -> io::Result<Folder> {
        Folder::open(&self.folder)?.folder(OUTBOX, None)
    }

    /// Asks the agent of one run to end the conversation after its turn. With
    /// the run's id in it, no later run can take the request for its own.
    pub(crate) fn close(&self, run: &RunId) -> io::Result<()> {
        self.deliver(ipc::CLOSE, run.as_str().as_bytes())
    }

    /// Puts a whole file into the input folder, readable by the agent's user
    /// from the moment it appears.
    fn deliver(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.input()?.write(name, content, self.owner)
    }

    /// The conversation an agent had last time.
    pub(crate) fn session(&self, agent: AgentKind) -> Option<AgentSessionId> {
        self.sessions().remove(agent.name())
    }

    /// Keeps the conversation for the next run.
    pub(crate) fn store_session(&self, agent: AgentKind, id: &AgentSessionId) -> io::Result<()> {
        let mut sessions = self.sessions();
        if sessions.get(agent.name()) == Some(id) {
            return Ok(());
        }
        sessions.insert(agent.name().to_owned(), id.clone());
        write_atomic(&self.session_file(), &serde_json::to_vec(&sessions)?)
    }

    fn session_file(&self) -> PathBuf {
        self.folder.join("session.json")
    }

    /// A file that cannot be read costs the conversation, not the run.
    fn sessions(&self) -> BTreeMap<String, AgentSessionId> {
        let path = self.session_file();
        let read = fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        read.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!("{} is ignored: {error}", path.display());
            }
            BTreeMap::new()
        })
    }
}

/// Changes the owner of a folder and all below it, unless it is right already.
///
/// Nothing runs in the group while its lock is held, so no name can change
/// between the check and the change; symlinks are changed themselves.
fn give(folder: &Path, user: User) -> io::Result<()> {
    let metadata = fs::symlink_metadata(folder)?;
    if metadata.uid() == user.uid && metadata.gid() == user.gid {
        return Ok(());
    }
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        }
        lchown(&path, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}
