//! One attempt: a run, with the store at its side.

use std::sync::Arc;
use std::time::Duration;

use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::RunId;
use drawbridge_shared::protocol::{ErrorKind, RecordKind, RecordStatus, RunRecord};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::delivery::deliver;
use super::hub::Hub;
use super::prepare::request_of;
use super::run_handle::{RunCommand, RunInbox};
use crate::error::{Error, Result};
use crate::events::{Event, RecordedEvent, channel};
use crate::run::follow_ups::Source;
use crate::run::{Request, RunControl, launch};
use crate::serve::retry::{Class, Failure, inspect_hint};
use crate::serve::submission::{Submission, SubmissionId};

/// Pause before a follow-up is tried again that could not be handed over, as when
/// the disk is full for a moment.
const DELIVERY_PAUSE: Duration = Duration::from_secs(1);

/// Facts about an attempt that has ended.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) run: Option<RunId>,
    reached_agent: bool,
    /// The latest failure that the agent reported.
    last_error: Option<String>,
    /// Of what kind that is.
    kind: Option<ErrorKind>,
    /// Time for which the model API asks not to be called.
    retry_after: Option<Duration>,
    log: Vec<String>,
}

/// One attempt at a submission.
pub(super) struct Attempt {
    pub(super) hub: Arc<Hub>,
    pub(super) id: SubmissionId,
    pub(super) number: u32,
}

impl Attempt {
    /// Runs it to its end; every event is written down as it comes.
    ///
    /// # Errors
    /// What happened cannot be written down. The run has ended nevertheless.
    pub(super) async fn run(
        &self,
        submission: &Submission,
        inbox: RunInbox,
    ) -> Result<(Result<Exit>, Observed)> {
        let (messages, receiver) = mpsc::channel(1);
        let (reporter, mut events) = channel();
        let request = match request_of(submission, &self.hub.setup) {
            Ok(request) => request,
            Err(error) => return Ok((Err(error), Observed::default())),
        };
        let state = self.hub.state.clone();
        let (close, stop) = (inbox.close.clone(), inbox.stop.clone());
        let request = Request {
            follow_ups: Source::Given(receiver),
            stop: Some(stop.clone()),
            ..request
        };
        let run = tokio::task::spawn_local(async move { launch(request, &state, reporter).await });
        let feeder = Feeder {
            hub: Arc::clone(&self.hub),
            id: self.id,
            inbox,
            run: messages,
            is_open: true,
        };
        let feeding = tokio::task::spawn_local(feeder.feed());
        let mut observed = Observed::default();
        let mut written = Ok(());
        while let Some(recorded) = events.recv().await {
            observed.take(&recorded.event);
            if ends_the_first_turn(&recorded.event) && !submission.stay_open {
                close.cancel();
            }
            if written.is_ok() {
                written = self.write(&recorded).await;
            }
            if written.is_err() {
                // What cannot be written down must not go on.
                stop.cancel();
            }
        }
        close.cancel();
        let lost = |_| Err(Error::infrastructure("the run's task failed"));
        let ended = run.await.unwrap_or_else(lost);
        let _ = feeding.await;
        written.map(|()| (ended, observed))
    }

    async fn write(&self, recorded: &RecordedEvent) -> Result<()> {
        let store = &self.hub.store;
        self.hub
            .retry_until_ok(|| store.append(self.id, self.number, recorded))
            .await
    }
}

/// The task that gives a run the inputs of its clients.
struct Feeder {
    hub: Arc<Hub>,
    id: SubmissionId,
    inbox: RunInbox,
    run: mpsc::Sender<RunControl>,
    /// Whether the conversation takes follow-ups.
    is_open: bool,
}

impl Feeder {
    /// Feeds the run until it ends: with follow-ups until the conversation is
    /// closed, each after the store has it, and with answers to its agent's
    /// requests and interrupts also after that.
    async fn feed(mut self) {
        while let Some(input) = self.next_input().await {
            if self.run.send(input).await.is_err() {
                return;
            }
        }
    }

    /// The next input that is no follow-up of the store; `None` when the run has
    /// ended. The follow-ups are delivered meanwhile.
    async fn next_input(&mut self) -> Option<RunControl> {
        loop {
            let delivery = deliver(&self.hub, self.id, self.inbox.group.as_ref(), &self.run);
            let is_delayed = self.is_open && !delivery.await.ok()?;
            tokio::select! {
                biased;
                () = self.run.closed() => return None,
                Some(command) = self.inbox.commands.recv() => match command {
                    RunCommand::Deliver => {}
                    RunCommand::Forward(control) => return Some(control),
                },
                () = self.inbox.close.cancelled(), if self.is_open => {
                    self.is_open = false;
                    return Some(RunControl::Close);
                }
                () = sleep(DELIVERY_PAUSE), if is_delayed => {}
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
                self.last_error.clone_from(error);
                self.kind = details.error_kind;
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
    pub(super) fn failure(self, id: SubmissionId, ended: &Result<Exit>) -> Option<Failure> {
        let (exit, error) = match ended {
            Ok(Exit::Success) => return None,
            Ok(exit) => (*exit, None),
            Err(error) => (error.exit(), Some(error)),
        };
        let summary = match (error, self.kind) {
            (Some(error), _) => error.to_string().replace(char::is_control, " "),
            (None, Some(kind)) => format!("the agent reported an error of kind {}", json!(kind)),
            (None, None) => "the agent failed".to_owned(),
        };
        let reason = error.map(Error::one_line).or(self.last_error);
        let hint = error.and_then(Error::hint_text).map(str::to_owned);
        let was_cut_short = exit == Exit::Interrupted && self.reached_agent;
        Some(Failure {
            class: Class::of(exit, self.reached_agent),
            code: exit.code(),
            reached_agent: self.reached_agent,
            reason: reason.unwrap_or_else(|| "the agent failed and gave no reason".to_owned()),
            summary,
            hint: hint.or_else(|| was_cut_short.then(|| inspect_hint(id))),
            retry_after: self.retry_after,
            log: self.log,
        })
    }
}

#[cfg(test)]
mod tests {
    use drawbridge_shared::ids::GroupName;
    use drawbridge_shared::ipc::HostMessage;

    use super::super::run_handle::RunHandle;
    use super::super::settings::Setup;
    use super::*;
    use crate::config::{FlagValues, ServeSettings};
    use crate::serve::store::Store;
    use crate::serve::submission::{Kind, StoredSubmission};
    use crate::state::{Group, State};

    /// Neither its first file nor its first way to the agent works out.
    async fn take_the_third_try(
        run: &mut mpsc::Receiver<RunControl>,
        group: &Group,
    ) -> (Vec<&'static str>, HostMessage) {
        let mut asked = Vec::new();
        loop {
            match run.recv().await.unwrap() {
                RunControl::Prepare { file, message } => {
                    asked.push("prepare");
                    if asked.len() == 2 {
                        group.stage(&file, &message).unwrap();
                    }
                }
                RunControl::HandOver { file } => {
                    asked.push("hand over");
                    if asked.len() == 4 {
                        return (asked, group.hand_over(&file).unwrap());
                    }
                }
                other => panic!("an unexpected word: {other:?}"),
            }
        }
    }

    /// Nothing else happens: no further message, no answer, no interrupt.
    #[tokio::test]
    async fn a_follow_up_that_is_held_up_is_tried_again_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(folder.path().join("state")).unwrap();
        let store = Store::open(&folder.path().join("queue.db")).unwrap();
        let input = r#"{"prompt":"x","group":"g"}"#;
        let stored = StoredSubmission::parse(input.to_owned()).unwrap();
        let id = store.submit(stored, 1).await.unwrap().id;
        let message: HostMessage =
            serde_json::from_str(r#"{"type":"message","text":"two"}"#).unwrap();
        assert!(store.add_follow_up(id, &message).await.unwrap());

        let name: GroupName = "g".parse().unwrap();
        let group = state.group(&name).unwrap();
        let (settings, _) = ServeSettings::of_file(None).unwrap();
        let hub = Hub::new(store, state, Setup::new(settings, FlagValues::default()));
        let (run, mut inputs) = mpsc::channel(1);
        let (_handle, inbox) = RunHandle::new(Some(name), Kind::Message);
        let mut feeder = Feeder {
            hub: Arc::new(hub),
            id,
            inbox,
            run,
            is_open: true,
        };
        let taken = tokio::select! {
            input = feeder.next_input() => panic!("{input:?}"),
            taken = take_the_third_try(&mut inputs, &group) => taken,
            () = sleep(DELIVERY_PAUSE * 30) => panic!("it is not tried again"),
        };
        // What is ready is not made ready a second time.
        let asked = vec!["prepare", "prepare", "hand over", "hand over"];
        assert_eq!(taken, (asked, message));
    }
}
