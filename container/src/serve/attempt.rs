//! One attempt: a run, with the store at its side.

use std::sync::Arc;
use std::time::Duration;

use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::RunId;
use drawbridge_shared::ipc::HostMessage;
use drawbridge_shared::protocol::{RecordKind, RecordStatus, RunRecord};
use tokio::sync::mpsc;

use super::delivery::deliver;
use super::hub::{Hub, Live};
use crate::commands;
use crate::error::{Error, Result};
use crate::events::{Event, Told, channel};
use crate::follow_ups::{FollowUp, Source};
use crate::launch::{Request, launch};
use crate::retry::{Class, Failure};
use crate::submission::{Submission, SubmissionId};

/// What is known about an attempt when it is over.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) run: Option<RunId>,
    reached_agent: bool,
    /// The latest failure that the agent reported.
    complaint: Option<String>,
    /// How long the model API wants to be left alone.
    retry_after: Option<Duration>,
    log: Vec<String>,
}

/// A run under way.
pub(super) struct Attempt {
    pub(super) hub: Arc<Hub>,
    pub(super) id: SubmissionId,
    pub(super) number: u32,
    pub(super) live: Live,
}

impl Attempt {
    /// Runs it to its end; every event is written down as it comes.
    ///
    /// # Errors
    /// What happened cannot be written down. The run has ended nevertheless.
    pub(super) async fn run(&self, input: &str) -> Result<(Result<Exit>, Observed)> {
        let (messages, receiver) = mpsc::channel(1);
        let (reporter, mut events) = channel();
        let submission = match Submission::parse(input) {
            Ok(submission) => submission,
            Err(error) => return Ok((Err(error), Observed::default())),
        };
        let request = match commands::request_of(&submission, &self.hub.setup) {
            Ok(request) => request,
            Err(error) => return Ok((Err(error), Observed::default())),
        };
        let state = self.hub.state.clone();
        let request = Request {
            follow_ups: Source::Given(receiver),
            stop: Some(self.live.stop.clone()),
            ..request
        };
        let run = tokio::task::spawn_local(async move { launch(request, &state, reporter).await });
        let feeder = tokio::task::spawn_local(feed(
            Arc::clone(&self.hub),
            self.id,
            self.live.clone(),
            messages,
        ));
        let mut observed = Observed::default();
        let mut written = Ok(());
        while let Some(told) = events.recv().await {
            observed.take(&told.event);
            if ends_the_first_turn(&told.event) && !submission.stay_open {
                self.live.close.cancel();
            }
            if written.is_ok() {
                written = self.write(&told).await;
            }
            if written.is_err() {
                // What cannot be written down must not go on.
                self.live.stop.cancel();
            }
        }
        self.live.close.cancel();
        let lost = |_| Err(Error::infrastructure("the run's task failed"));
        let ended = run.await.unwrap_or_else(lost);
        let _ = feeder.await;
        written.map(|()| (ended, observed))
    }

    async fn write(&self, told: &Told) -> Result<()> {
        let store = &self.hub.store;
        self.hub
            .insist(|| store.append(self.id, self.number, told))
            .await
    }
}

/// Hands the run what its callers have for it, until it is over: follow-ups,
/// each after the store has it, until the conversation is closed; answers to
/// its agent's requests and interrupts also after that.
async fn feed(hub: Arc<Hub>, id: SubmissionId, live: Live, messages: mpsc::Sender<FollowUp>) {
    let mut is_open = true;
    while let Some(next) = next_word(&hub, id, &live, &messages, &mut is_open).await {
        if messages.send(next).await.is_err() {
            return;
        }
    }
}

/// What to tell the run next; `None` when it is over.
async fn next_word(
    hub: &Hub,
    id: SubmissionId,
    live: &Live,
    messages: &mpsc::Sender<FollowUp>,
    is_open: &mut bool,
) -> Option<FollowUp> {
    loop {
        if *is_open
            && deliver(hub, id, live.group.as_ref(), messages)
                .await
                .is_err()
        {
            return None;
        }
        tokio::select! {
            biased;
            () = messages.closed() => return None,
            () = live.follow_up.notified(), if *is_open => {}
            () = live.interrupt.notified() => {
                return Some(FollowUp::Message(HostMessage::Interrupt));
            }
            answer = live.next_answer() => return Some(answer),
            () = live.close.cancelled(), if *is_open => {
                *is_open = false;
                return Some(FollowUp::Close);
            }
        }
    }
}

/// Whether the agent has given its first answer, or cannot.
fn ends_the_first_turn(event: &Event) -> bool {
    let Event::Result(record) = event else {
        return false;
    };
    record.details.kind != Some(RecordKind::SessionUpdate)
}

impl Observed {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Start { run, .. } => self.run = Some(run.clone()),
            Event::Result(RunRecord {
                status: RecordStatus::Error,
                error,
                details,
                ..
            }) => {
                self.complaint.clone_from(error);
                self.retry_after = details.retry_after_ms.map(Duration::from_millis);
            }
            Event::Stopped { reached_agent, log } => {
                self.reached_agent = *reached_agent;
                self.log.clone_from(log);
            }
            _ => {}
        }
    }

    /// The failure behind an end, or `None` for a good one.
    pub(super) fn failure(self, ended: &Result<Exit>) -> Option<Failure> {
        let (exit, error) = match ended {
            Ok(Exit::Success) => return None,
            Ok(exit) => (*exit, None),
            Err(error) => (error.exit(), Some(error)),
        };
        let reason = error.map(Error::one_line).or(self.complaint);
        Some(Failure {
            class: Class::of(exit, self.reached_agent),
            code: exit.code(),
            reached_agent: self.reached_agent,
            reason: reason.unwrap_or_else(|| "the agent failed and gave no reason".to_owned()),
            hint: error.and_then(Error::hint_text).map(str::to_owned),
            retry_after: self.retry_after,
            log: self.log,
        })
    }
}
