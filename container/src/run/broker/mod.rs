//! The host's side of the files through which an agent asks for things.
//!
//! A request is a file in `ipc/messages` or `ipc/tasks` of a group. Whose it is
//! the folder says, not the file. It is taken out of the agent's reach, checked
//! against the rules in `requests`, reported as an event, and answered by a file
//! in `ipc/answers`, which the agent's tool waits for. Every request is
//! answered: who cannot be asked is said to be so.

mod handler;
mod inbox;
mod outgoing;
mod responder;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drawbridge_shared::ids::GroupName;
use drawbridge_shared::ipc::{ANSWERS, Answer};
use tokio::time::{Instant, timeout_at};

use crate::error::{Context, Error, Result};
use crate::events::{Event, Reporter};
use crate::requests::{Asked, Decision, Reply, Request, Snapshot, decide};
use crate::spec::User;
use crate::state::{Folder, Group};

use handler::{ACCEPT, Handlers};
use inbox::{ClaimedFile, Content, Inbox};

pub(crate) use handler::Handler;
pub(crate) use outgoing::Outgoing;
pub(crate) use responder::Responder;

/// Longest time a person may be given for an answer.
const LONGEST_QUESTION: Duration = Duration::from_secs(24 * 60 * 60);
/// Most requests that wait for the embedding program.
const MAX_OPEN: usize = 1000;
/// Snapshots of the host, which the agent's tools read.
const TASKS_FILE: &str = "current_tasks.json";
const GROUPS_FILE: &str = "available_groups.json";

/// The answer to a request that was reported and that nobody will confirm.
const QUEUED: &str = "Queued for the host; it has not confirmed this.";
const TOO_MANY: &str = "too many questions wait for an answer; decide yourself, or ask later";
const NOBODY: &str = "nobody can be asked now; decide yourself, or end your turn with the question";

/// The requests of one run.
#[derive(Debug)]
pub(crate) struct Requests {
    group: GroupName,
    owner: Option<User>,
    ipc: Folder,
    answers: Folder,
    inbox: Inbox,
    outgoing: Outgoing,
    snapshot: Snapshot,
    responder: Responder,
    /// Whether the other end can still answer.
    can_be_asked: bool,
    open: Vec<Open>,
    /// Those that the handler has.
    handlers: Handlers,
}

/// A request that waits for an answer.
#[derive(Debug)]
struct Open {
    taken: ClaimedFile,
    /// Until when the agent waits, if it asks a person.
    question: Option<Instant>,
}

impl Requests {
    /// Prepares a group's IPC folder for a run; `inside` is the workspace as
    /// the agent knows it.
    pub(crate) fn open(
        group: &Group,
        inside: PathBuf,
        snapshot: Snapshot,
        responder: Responder,
    ) -> Result<Self> {
        let prepared = Self::prepare(group, inside, snapshot, responder);
        prepared.context(|| Error::not_started("cannot prepare the group's ipc folder"))
    }

    fn prepare(
        group: &Group,
        inside: PathBuf,
        snapshot: Snapshot,
        responder: Responder,
    ) -> io::Result<Self> {
        let ipc = Folder::open(&group.ipc())?;
        let answers = ipc.folder(ANSWERS, group.owner())?;
        // Nobody waits for what an earlier run was told.
        for name in answers.names(usize::MAX)? {
            answers.remove(&name)?;
        }
        let copies = group.folder().join("outgoing");
        let requests = Self {
            group: group.name().clone(),
            owner: group.owner(),
            ipc,
            answers,
            inbox: Inbox::open(group)?,
            outgoing: Outgoing::new(group.workspace(), inside, copies)?,
            snapshot,
            responder,
            can_be_asked: true,
            open: Vec::new(),
            handlers: Handlers::default(),
        };
        requests.write_snapshot()?;
        Ok(requests)
    }

    /// The way out for files that answers name.
    pub(crate) fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    fn write_snapshot(&self) -> io::Result<()> {
        let tasks = self.snapshot.tasks_for(&self.group);
        let groups = self.snapshot.groups_for(&self.group);
        self.ipc.write(TASKS_FILE, &tasks, self.owner)?;
        self.ipc.write(GROUPS_FILE, &groups, self.owner)
    }

    /// Takes over what the host knows now.
    pub(crate) fn set_snapshot(&mut self, snapshot: Snapshot, reporter: &Reporter) {
        self.snapshot = snapshot.with(&self.group);
        if let Err(error) = self.write_snapshot() {
            reporter.warn(format!("the agent does not see the new snapshot: {error}"));
        }
    }

    /// Waits until there is something to handle. What nobody has room for is left
    /// where it is.
    pub(crate) async fn changed(&mut self) {
        let has_room = self.handlers.capacity() > 0;
        tokio::select! {
            () = self.inbox.changed(), if has_room => {}
            () = self.handlers.next() => {}
        }
    }

    /// Looks for what a killed launcher left unhandled.
    pub(crate) fn recover(&mut self, reporter: &Reporter) {
        if let Err(error) = self.inbox.recover() {
            reporter.warn(format!("requests of an earlier run wait: {error}"));
        }
    }

    /// Handles what there is. Returns whether there was anything.
    pub(crate) fn handle(&mut self, reporter: &Reporter) -> bool {
        // What is answered first makes room for more.
        let has_replied = self.reply_to_handled(reporter);
        let taken = self.inbox.take(self.handlers.capacity());
        let taken = taken.unwrap_or_else(|error| {
            reporter.warn(format!("requests of the agent cannot be read: {error}"));
            Vec::new()
        });
        let is_busy = has_replied || !taken.is_empty();
        for (taken, content) in taken {
            self.receive(taken, content, reporter);
        }
        is_busy
    }

    /// Passes on what the handler said. Returns whether it said anything.
    fn reply_to_handled(&mut self, reporter: &Reporter) -> bool {
        let handled = self.handlers.take_ended();
        let has_replied = !handled.is_empty();
        for (taken, reply) in handled {
            let reply = reply.unwrap_or_else(|reason| {
                reporter.warn(format!("the request handler failed: {reason}"));
                Reply::refused("the host's request handler failed")
            });
            self.reply(&taken, reply, reporter);
        }
        has_replied
    }

    fn receive(&mut self, taken: ClaimedFile, content: Content, reporter: &Reporter) {
        let request = match content {
            Ok(request) => request,
            Err(reason) => {
                reporter.warn(format!("a file request is refused: {reason}"));
                let set_aside = self.inbox.reject(&taken, &reason);
                return self.tell(&taken, Reply::refused(&reason), set_aside, reporter);
            }
        };
        let what = request.name();
        let asked = match self.admit(&taken, request) {
            Ok(asked) => asked,
            Err(reason) => {
                reporter.warn(format!("a {what} request is refused: {reason}"));
                return self.reply(&taken, Reply::refused(&reason), reporter);
            }
        };
        reporter.report(Event::Request(asked.clone()));
        match self.responder.clone() {
            Responder::Handler(handler) => {
                let question = time_for(&asked.request);
                if let Err(taken) = self.handlers.start(handler, taken, &asked, question) {
                    self.reply(&taken, Reply::refused(TOO_MANY), reporter);
                }
            }
            Responder::Program | Responder::Person => match self.answer_at_once(&asked.request) {
                Some(reply) => self.reply(&taken, reply, reporter),
                None => self.open.push(Open {
                    question: time_for(&asked.request).map(|time| Instant::now() + time),
                    taken,
                }),
            },
        }
    }

    /// The request, if it can be read and its group may make it.
    fn admit(&mut self, taken: &ClaimedFile, request: Request) -> Result<Asked, String> {
        if let Decision::Refused(reason) = decide(&self.group, &self.snapshot, &request) {
            return Err(reason);
        }
        let file = match &request {
            Request::File { path, .. } => Some(self.outgoing.export(path)?),
            _ => None,
        };
        Ok(Asked {
            id: taken.id(),
            group: self.group.clone(),
            request,
            file,
        })
    }

    /// A reply that needs nobody's answer.
    fn answer_at_once(&self, request: &Request) -> Option<Reply> {
        match (&self.responder, request) {
            (_, Request::AskUser { .. }) if !self.can_be_asked => Some(Reply::refused(NOBODY)),
            (_, Request::AskUser { .. }) if self.open.len() >= MAX_OPEN => {
                Some(Reply::refused(TOO_MANY))
            }
            (_, Request::AskUser { .. }) => None,
            (Responder::Person, Request::Message { .. } | Request::File { .. }) => {
                Some(Reply::accepted(None))
            }
            (Responder::Person, request) => {
                let what = request.name();
                let reason = format!("this host has nobody who takes a {what} request");
                Some(Reply::refused(&reason))
            }
            _ if self.can_be_asked && self.open.len() < MAX_OPEN => None,
            _ => Some(Reply::accepted(Some(QUEUED))),
        }
    }

    /// Answers a request, and forgets it.
    fn reply(&mut self, taken: &ClaimedFile, mut reply: Reply, reporter: &Reporter) {
        if let Some(snapshot) = reply.snapshot.take() {
            self.set_snapshot(snapshot, reporter);
        }
        let forgotten = self.inbox.done(taken);
        self.tell(taken, reply, forgotten, reporter);
    }

    /// Tells the agent, and the operator when the request could not be forgotten.
    fn tell(
        &self,
        taken: &ClaimedFile,
        reply: Reply,
        forgotten: io::Result<()>,
        reporter: &Reporter,
    ) {
        if let Err(error) = forgotten {
            reporter.warn(format!("a request may come again: {error}"));
        }
        let Some(name) = &taken.answer else {
            return;
        };
        let answer = Answer {
            ok: reply.ok,
            text: reply.text,
        };
        let written = serde_json::to_vec(&answer)
            .map_err(io::Error::from)
            .and_then(|json| self.answers.write(name, &json, self.owner));
        if let Err(error) = written {
            reporter.warn(format!("the agent does not see an answer: {error}"));
        }
    }

    /// Passes on the embedding program's answer.
    pub(crate) fn answer(&mut self, id: &str, reply: Reply, reporter: &Reporter) {
        self.expire_questions(reporter);
        let Some(at) = self.open.iter().position(|open| open.taken.id() == id) else {
            return reporter.warn(format!("no request {id:?} waits for an answer"));
        };
        let open = self.open.remove(at);
        self.reply(&open.taken, reply, reporter);
    }

    /// Takes a line that a person typed, if a question waits for one.
    pub(crate) fn answer_with_line(&mut self, line: &str, reporter: &Reporter) -> bool {
        if !matches!(self.responder, Responder::Person) {
            return false;
        }
        self.expire_questions(reporter);
        if self.open.is_empty() {
            return false;
        }
        let open = self.open.remove(0);
        self.reply(&open.taken, Reply::accepted(Some(line)), reporter);
        true
    }

    fn expire_questions(&mut self, reporter: &Reporter) {
        let now = Instant::now();
        let is_old = |open: &mut Open| open.question.is_some_and(|until| until <= now);
        let old: Vec<_> = self.open.extract_if(.., is_old).collect();
        for open in old {
            self.reply(&open.taken, Reply::refused("the time is over"), reporter);
        }
    }

    /// No more answers will come.
    pub(crate) fn nobody_answers(&mut self, reporter: &Reporter) {
        self.can_be_asked = false;
        for open in std::mem::take(&mut self.open) {
            let reply = match open.question {
                Some(_) => Reply::refused(NOBODY),
                None => Reply::accepted(Some(QUEUED)),
            };
            self.reply(&open.taken, reply, reporter);
        }
    }

    /// Until when the agent waits for a person.
    pub(crate) fn question_until(&self) -> Option<Instant> {
        self.open.iter().filter_map(|open| open.question).max()
    }

    /// Handles what came last, when the agent has ended.
    pub(crate) async fn finish(&mut self, reporter: &Reporter) {
        // Its last file event may not have come.
        self.inbox.look_again();
        let deadline = Instant::now() + ACCEPT;
        while self.inbox.is_due() {
            let next = async {
                reporter.capacity().await;
                self.changed().await;
            };
            if timeout_at(deadline, next).await.is_err() {
                // What is left waits for the group's next run.
                break;
            }
            self.handle(reporter);
        }
        self.nobody_answers(reporter);
        if !self.handlers.finish(ACCEPT).await {
            reporter.warn("the request handler did not end; its requests come again");
        }
        // Nothing more is taken: nobody would wait for the handler.
        self.reply_to_handled(reporter);
    }
}

/// The time that a person has for a question.
fn time_for(request: &Request) -> Option<Duration> {
    match request {
        Request::AskUser {
            timeout_seconds, ..
        } => Some(Duration::from_secs(*timeout_seconds).min(LONGEST_QUESTION)),
        _ => None,
    }
}

/// Reads a snapshot file.
pub(crate) fn read_snapshot(path: &Path) -> io::Result<Snapshot> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

#[cfg(test)]
mod tests;
