//! The live part of a run: records come out, follow-ups go in, clocks tick.

mod tally;

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use drawbridge_shared::ids::RunId;
use drawbridge_shared::ipc::HostMessage;
use drawbridge_shared::marker::{ScanEvent, Scanner};
use drawbridge_shared::protocol::{Progress, RecordKind, RecordStatus, RunRecord};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::RunControl;
use super::broker::Requests;
use super::context::RunContext;
use crate::config::RunSettings;
use crate::events::{Event, Reporter};
use crate::process::Program;
use crate::process::interrupt::Interrupts;
use crate::state::Group;

pub(crate) use tally::Tally;

/// Longest time for a runner to end once all is answered and it was asked to.
const CLOSE_GRACE: Duration = Duration::from_secs(30);
/// Longest time for output after the program has ended.
const LAST_OUTPUT: Duration = Duration::from_secs(5);
/// Output that is read at once, in bytes.
const PIECE: usize = 64 * 1024;
/// Far enough away to mean never.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// Why the conversation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The program ended on its own.
    Exited(ExitStatus),
    /// All is answered, but the program does not end.
    KeepsRunning,
    /// It took longer than the run may take.
    TooLong,
    /// Neither side said anything for too long.
    Silent,
    /// A signal asked us to stop.
    Interrupted,
}

/// A running conversation.
pub(crate) struct RunMonitor<'a> {
    run: &'a RunId,
    group: &'a Group,
    settings: &'a RunSettings,
    reporter: Reporter,
    scanner: Scanner,
    requests: Requests,
    tally: Tally,
    state: State,
}

/// The progress of the conversation.
#[derive(Debug)]
struct State {
    /// Messages handed over, the prompt included.
    sent: usize,
    /// Whether more follow-ups can come.
    is_open: bool,
    /// Whether the other end can still say anything, answers included.
    is_heard: bool,
    /// Whether the runner was asked to end.
    is_closed: bool,
    /// Longest time for it to do so.
    close_grace: Duration,
    last_activity: Instant,
    /// Whether a follow-up could not be handed over and is tried again.
    is_delayed: bool,
}

/// Reads more of a run's output, once there is room for what it becomes.
async fn read(
    output: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    reporter: &Reporter,
) -> io::Result<usize> {
    reporter.capacity().await;
    output.read(buffer).await
}

/// The number of records that answer a message; a request has none of its own.
fn answers_to(message: &HostMessage) -> usize {
    usize::from(matches!(message, HostMessage::Message { .. }))
}

/// Waits for requests, once there is room for the events that they are.
async fn new_requests(requests: &mut Requests, reporter: &Reporter) {
    reporter.capacity().await;
    requests.changed().await;
}

impl<'a> RunMonitor<'a> {
    pub(crate) fn new(
        context: &'a RunContext<'_>,
        group: &'a Group,
        reporter: Reporter,
        scanner: Scanner,
        requests: Requests,
    ) -> Self {
        Self {
            run: &context.run,
            group,
            settings: &context.settings,
            reporter,
            scanner,
            requests,
            tally: Tally::default(),
            state: State {
                sent: 1,
                is_open: true,
                is_heard: true,
                is_closed: false,
                close_grace: CLOSE_GRACE,
                last_activity: Instant::now(),
                is_delayed: false,
            },
        }
    }

    /// Goes on until the program ends or has to be stopped.
    pub(crate) async fn run(
        &mut self,
        program: &mut Program,
        mut follow_ups: mpsc::Receiver<RunControl>,
        interrupts: &mut Interrupts,
    ) -> End {
        let hard_limit = Instant::now() + self.settings.timeout.unwrap_or(NEVER);
        let mut buffer = vec![0; PIECE];
        let mut output_is_open = true;
        self.requests.recover(&self.reporter);
        loop {
            self.close_when_answered();
            let quiet_limit = self.quiet_limit();
            tokio::select! {
                // What nobody reads is left where it is.
                read = read(&mut program.stdout, &mut buffer, &self.reporter), if output_is_open => match read {
                    Ok(0) | Err(_) => output_is_open = false,
                    Ok(count) => self.take_output(&buffer[..count]),
                },
                status = program.child.wait() => {
                    if output_is_open {
                        self.drain(program).await;
                    }
                    return status.map_or(End::KeepsRunning, End::Exited);
                }
                follow_up = follow_ups.recv(), if self.state.is_heard => {
                    self.take_follow_up(follow_up);
                }
                () = new_requests(&mut self.requests, &self.reporter) => self.take_requests(),
                () = interrupts.recv() => {
                    self.close();
                    return End::Interrupted;
                }
                () = sleep_until(hard_limit) => return End::TooLong,
                () = sleep_until(quiet_limit) => if let Some(end) = self.idle_too_long() {
                    return end;
                },
            }
        }
    }

    /// Reads what is left of the output after the program was stopped.
    pub(crate) async fn drain(&mut self, program: &mut Program) {
        let mut buffer = vec![0; PIECE];
        // A process that inherited the pipe could hold it open for ever.
        let deadline = Instant::now() + LAST_OUTPUT;
        while let Ok(Ok(count @ 1..)) = timeout_at(deadline, program.stdout.read(&mut buffer)).await
        {
            self.take_output(&buffer[..count]);
        }
    }

    /// Handles the agent's last requests, and reports a record that the end of
    /// the stream cut off.
    pub(crate) async fn finish(mut self) -> Tally {
        self.requests.finish(&self.reporter).await;
        for event in self.scanner.finish() {
            if let ScanEvent::Malformed { reason, .. } = event {
                self.reporter
                    .warn(format!("the agent's last answer is lost: {reason}"));
            }
        }
        self.tally
    }

    fn take_output(&mut self, bytes: &[u8]) {
        self.tally.has_started = true;
        for event in self.scanner.push(bytes) {
            match event {
                ScanEvent::Record(record) => self.take_record(*record),
                ScanEvent::Malformed { reason, head } => {
                    tracing::debug!("it began with {head:?}");
                    self.reporter.warn(format!("an answer is lost: {reason}"));
                }
            }
        }
    }

    fn take_requests(&mut self) {
        if self.requests.handle(&self.reporter) {
            self.state.last_activity = Instant::now();
        }
    }

    fn take_record(&mut self, mut record: RunRecord) {
        self.state.last_activity = Instant::now();
        self.tally.count(&record);
        if record.details.progress == Some(Progress::Started) {
            return;
        }
        self.export_files(&mut record);
        if record.status == RecordStatus::Success {
            // An id that comes with a failure may be the cause of it.
            self.store_session(record.new_session_id.as_deref());
        }
        let event = match record.details.kind {
            Some(RecordKind::Progress) => Event::Progress(record),
            _ => Event::Result(record),
        };
        self.reporter.report(event);
    }

    fn export_files(&mut self, record: &mut RunRecord) {
        record.details.files = Vec::new();
        let is_progress = record.details.kind == Some(RecordKind::Progress);
        let Some(text) = record.result.as_mut().filter(|_| !is_progress) else {
            return;
        };
        let (files, complaints) = self.requests.outgoing().take_tags(text);
        record.details.files = files;
        for complaint in complaints {
            self.reporter.warn(complaint);
        }
    }

    fn store_session(&self, id: Option<&str>) {
        let Some(id) = id else {
            return;
        };
        let stored = match id.parse() {
            Ok(id) => self.group.store_session(self.settings.agent, &id),
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = stored {
            let warning = format!("the conversation cannot be resumed later: {error}");
            self.reporter.warn(warning);
        }
    }

    fn take_follow_up(&mut self, follow_up: Option<RunControl>) {
        match follow_up {
            Some(RunControl::Message(message)) => self.send(&message),
            Some(RunControl::Prepare { file, message }) => self.prepare(&file, &message),
            Some(RunControl::HandOver { file }) => self.hand_over(&file),
            Some(RunControl::Answer { id, reply }) => {
                self.state.last_activity = Instant::now();
                self.requests.answer(&id, reply, &self.reporter);
            }
            Some(RunControl::Snapshot(snapshot)) => {
                self.requests.set_snapshot(snapshot, &self.reporter);
            }
            Some(RunControl::Invalid(reason)) => self.skip(&reason),
            Some(RunControl::Close) => self.state.is_open = false,
            None => {
                (self.state.is_open, self.state.is_heard) = (false, false);
                self.requests.nobody_answers(&self.reporter);
            }
        }
    }

    fn send(&mut self, message: &HostMessage) {
        self.state.last_activity = Instant::now();
        if let HostMessage::Message { text, .. } = message
            && self.requests.answer_with_line(text, &self.reporter)
        {
            return;
        }
        if !self.state.is_open {
            return self.skip("the conversation is closed");
        }
        match self.group.send(message) {
            Ok(()) => self.state.sent += answers_to(message),
            Err(error) => {
                self.tally.lost += 1;
                self.reporter.warn(format!("a follow-up is lost: {error}"));
            }
        }
    }

    fn prepare(&mut self, file: &str, message: &HostMessage) {
        if !self.state.is_delayed {
            self.state.last_activity = Instant::now();
        }
        if let Err(error) = self.group.stage(file, message) {
            self.delay(&error);
        }
    }

    fn hand_over(&mut self, file: &str) {
        match self.group.hand_over(file) {
            Ok(message) => {
                self.state.last_activity = Instant::now();
                self.state.is_delayed = false;
                self.state.sent += answers_to(&message);
            }
            Err(error) => self.delay(&error),
        }
    }

    /// Warns that a follow-up is delayed. It stays with its sender, who tries
    /// again and again. That is told once, and no later try is a sign of life.
    fn delay(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.state.is_delayed, true) {
            self.reporter.warn(format!("a follow-up waits: {error}"));
        }
    }

    fn skip(&self, reason: &str) {
        self.reporter
            .warn(format!("a follow-up is skipped: {reason}"));
    }

    /// Ends the conversation when nothing more can come and the first answer is
    /// there. Messages that still wait are answered before the runner ends.
    fn close_when_answered(&mut self) {
        if !self.state.is_open && self.tally.answers > 0 {
            self.close();
        }
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.state.is_closed, true) {
            return;
        }
        self.state.last_activity = Instant::now();
        if let Err(error) = self.group.close(self.run) {
            // It does not know that it should, so there is no wait for it.
            self.state.close_grace = Duration::ZERO;
            self.reporter
                .warn(format!("cannot ask the agent to end: {error}"));
        }
    }

    const fn waits_for_end(&self) -> bool {
        self.state.is_closed && self.tally.answers >= self.state.sent
    }

    fn quiet_limit(&self) -> Instant {
        let limit = if self.waits_for_end() {
            self.state.close_grace
        } else {
            self.settings.idle_timeout.unwrap_or(NEVER)
        };
        let limit = self.state.last_activity + limit;
        // Who waits for a person is not idle; the question has its own limit.
        let question = self.requests.question_until();
        question.map_or(limit, |until| limit.max(until))
    }

    /// Ends a conversation that has gone quiet after an answer in order, and
    /// one that never had an answer, or does not end, by force.
    fn idle_too_long(&mut self) -> Option<End> {
        if self.waits_for_end() {
            return Some(End::KeepsRunning);
        }
        if self.tally.answers >= self.state.sent && !self.state.is_closed {
            self.close();
            return None;
        }
        Some(End::Silent)
    }
}

#[cfg(test)]
mod tests;
