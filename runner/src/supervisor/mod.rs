//! The conversation, from the run's document to the last record.
//!
//! Everything happens on one thread: the agent's events, the host's files,
//! signals and deadlines are taken one at a time, handed to the
//! [`Conversation`], and what it decides is done before the next one is taken.

mod records;
mod script_gate;
mod setup;
mod watchdog;

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, SystemTime};

use drawbridge_io::signals::Signals;
use drawbridge_shared::chain::chain;
use drawbridge_shared::exit::Exit;
use drawbridge_shared::ipc::HostMessage;
use drawbridge_shared::protocol::{ErrorKind, RecordKind, RunInput, RunRecord};
use tokio::runtime;
use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep_until};

use crate::agent::{Abilities, Agent, AgentCommand, AgentEvent, AgentSpec, Failure};
use crate::conversation::{Conversation, Effect, Renewal, Stop};
use crate::host::heartbeat::Heartbeat;
use crate::host::inbox::{Inbox, Incoming};
use crate::host::input;
use crate::host::output::Output;
use crate::host::relay::Relay;
use crate::process::die_with_parent::{self, DeathSignal, ParentArgs};
use crate::self_command::SelfCommand;
use records::Records;
use setup::{Beginning, Setup};
use watchdog::{Alarm, Watchdog};

/// Longest time for a stopped agent to end; less than the init process grants
/// us.
const STOP_DEADLINE: Duration = Duration::from_secs(6);

/// `agent-runner supervise`.
pub(crate) fn main(self_command: &SelfCommand, args: &ParentArgs) -> Exit {
    let started = SystemTime::now();
    if let Err(error) = die_with_parent::guard(args, DeathSignal::Kill) {
        tracing::error!("{error}");
        return Exit::NotStarted;
    }
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return Exit::Infrastructure;
        }
    };
    let exit = runtime.block_on(run(self_command, started));
    // A write that a host never reads must not hold up the end.
    runtime.shutdown_background();
    exit
}

/// Listens for the signals that ask for the end of the run.
fn listen_for_stop() -> io::Result<Signals> {
    Signals::listen(&[
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ])
}

async fn run(self_command: &SelfCommand, started: SystemTime) -> Exit {
    // Before anything can end the run, so that no signal is missed.
    let mut signals = match listen_for_stop() {
        Ok(signals) => signals,
        Err(error) => {
            let text = format!("cannot listen for signals: {error}");
            let failure = Failure::new(ErrorKind::StartUp, text);
            return refuse(&Output::new(None, false), failure).await;
        }
    };
    let read = tokio::select! {
        read = input::read() => read,
        _ = signals.next() => return stopped(&Output::new(None, false)).await,
    };
    let input = match read {
        Ok(input) => input,
        Err(unreadable) => {
            let nonce = unreadable.nonce.as_ref();
            let text = format!("Failed to parse input: {}", unreadable.error);
            let failure = Failure::new(ErrorKind::Input, text);
            return refuse(&Output::new(nonce, nonce.is_some()), failure).await;
        }
    };
    let options = input.drawbridge.as_ref();
    let nonce = options.and_then(|options| options.nonce.as_ref());
    let output = Output::new(nonce, options.is_some());
    converse(self_command, input, started, output, signals).await
}

async fn converse(
    self_command: &SelfCommand,
    input: RunInput,
    started: SystemTime,
    output: Output,
    mut signals: Signals,
) -> Exit {
    let prepared = tokio::select! {
        prepared = setup::prepare(self_command, input, started) => prepared,
        _ = signals.next() => return stopped(&output).await,
    };
    match prepared {
        Ok(Beginning::Run(setup)) => {
            let (supervisor, begin) = Supervisor::new(*setup, output, signals);
            Box::pin(supervisor.supervise(begin)).await
        }
        Ok(Beginning::Skipped) => {
            let mut record = RunRecord::answer(None, None);
            record.details.kind = Some(RecordKind::Skipped);
            write_last(&output, record, Exit::Success).await
        }
        Err(error) => {
            let failure = Failure::new(ErrorKind::StartUp, chain(&error));
            refuse(&output, failure).await
        }
    }
}

/// Writes an error record instead of a conversation.
async fn refuse(output: &Output, failure: Failure) -> Exit {
    tracing::error!("{}", failure.message);
    write_last(output, failure.record(None), Exit::AgentFailed).await
}

/// Ends a run that was stopped before its conversation began.
async fn stopped(output: &Output) -> Exit {
    let record = Failure::stopped().record(None);
    write_last(output, record, Exit::Interrupted).await
}

async fn write_last(output: &Output, record: RunRecord, exit: Exit) -> Exit {
    match output.write(record).await {
        Ok(()) => exit,
        Err(error) => {
            tracing::error!("cannot write the record: {error}");
            Exit::Infrastructure
        }
    }
}

struct Supervisor {
    records: Records,
    inbox: Inbox,
    conversation: Conversation,
    spec: AgentSpec,
    agent: Option<Agent>,
    /// Commands that wait until the agent accepts them.
    outbox: VecDeque<AgentCommand>,
    signals: Signals,
    watchdog: Watchdog,
    heartbeat: Heartbeat,
    /// The host has asked for the end.
    close_seen: bool,
    /// When to give up on an agent that was asked to stop.
    stop_deadline: Option<Instant>,
    _relay: Option<Relay>,
}

impl Supervisor {
    fn new(mut setup: Setup, output: Output, signals: Signals) -> (Self, Vec<Effect>) {
        let now = Instant::now();
        let (prompt, requests) = setup.inbox.join_to(setup.prompt);
        let (conversation, mut effects) = Conversation::begin(setup.resume, prompt);
        let mut supervisor = Self {
            records: Records::new(
                output,
                setup.spec.options.kind,
                setup.progress,
                setup.notice,
            ),
            inbox: setup.inbox,
            conversation,
            spec: setup.spec,
            agent: None,
            outbox: VecDeque::new(),
            signals,
            watchdog: Watchdog::new(setup.stuck_after, now),
            heartbeat: Heartbeat::new(&setup.paths.ipc, now),
            close_seen: false,
            stop_deadline: None,
            _relay: setup.relay,
        };
        for request in requests {
            effects.extend(supervisor.request(request));
        }
        (supervisor, effects)
    }

    async fn supervise(mut self, begin: Vec<Effect>) -> Exit {
        let mut effects = begin;
        loop {
            if let Some(exit) = self.carry_out(effects).await {
                return exit;
            }
            effects = self.next().await;
        }
    }

    /// Waits for the next event and asks the conversation what to do.
    async fn next(&mut self) -> Vec<Effect> {
        let has_agent = self.agent.is_some();
        let commands = self.agent.as_ref().map(|agent| agent.commands.clone());
        let is_working = has_agent && self.conversation.is_working();
        let stop_deadline = self.stop_deadline;
        let watches = has_agent && self.conversation.is_awaited() && stop_deadline.is_none();
        tokio::select! {
            _ = self.signals.next() => self.conversation.stop(Stop::Signal),
            event = next_event(&mut self.agent), if has_agent => match event {
                Some(event) => self.agent_event(event).await,
                None => self.agent_ended().await,
            },
            () = send_next(commands, &mut self.outbox), if has_agent && !self.outbox.is_empty() => vec![],
            () = self.inbox.changed() => self.read_inbox(),
            () = sleep_until(self.watchdog.deadline()), if watches => self.alarm(),
            () = until(self.heartbeat.deadline()) => {
                let tool = self.watchdog.tool_in_flight();
                self.heartbeat.write(Instant::now(), is_working, tool);
                vec![]
            }
            () = until(stop_deadline) => {
                self.agent = None;
                let late = Failure::crash("the agent did not stop in time");
                self.conversation.agent_ended(Err(late))
            }
        }
    }

    async fn agent_event(&mut self, event: AgentEvent) -> Vec<Effect> {
        self.watchdog.event(&event, Instant::now());
        self.heartbeat.beat();
        // Only these can change what the conversation does with the folder.
        let matters = matches!(event, AgentEvent::Idle | AgentEvent::Received(_));
        let progress = self.records.observe(&event);
        let mut effects = self.conversation.agent_event(event);
        if let Some(progress) = progress {
            let session = self.conversation.session_text();
            effects.insert(0, Effect::Write(Box::new(progress.into_record(session))));
        }
        if matters {
            effects.extend(self.read_inbox());
        }
        effects
    }

    async fn agent_ended(&mut self) -> Vec<Effect> {
        let outcome = match self.agent.take() {
            Some(agent) => agent.outcome().await,
            None => Ok(()),
        };
        self.outbox.clear();
        self.heartbeat.beat();
        let mut effects = self.conversation.agent_ended(outcome);
        effects.extend(self.read_inbox());
        effects
    }

    fn alarm(&mut self) -> Vec<Effect> {
        let now = Instant::now();
        let text = self.watchdog.describe(now);
        match self.watchdog.alarm(now) {
            Alarm::Interrupt => {
                tracing::warn!("{text}; it is interrupted");
                self.conversation.interrupt()
            }
            Alarm::GiveUp => self
                .conversation
                .stuck(Failure::new(ErrorKind::Timeout, text)),
        }
    }

    /// Hands over what waits in the folder. The request to close is looked for
    /// first, so that what was there before it is taken before it counts.
    fn read_inbox(&mut self) -> Vec<Effect> {
        self.close_seen |= self.inbox.take_close();
        let mut effects = Vec::new();
        loop {
            let accepts_messages = self.conversation.accepts_messages();
            match self.inbox.take(accepts_messages) {
                Some(Incoming::Message(message)) => {
                    effects.extend(self.conversation.message(message));
                }
                Some(Incoming::Request(request)) => effects.extend(self.request(request)),
                None => {
                    if accepts_messages {
                        effects.extend(self.conversation.nothing_waits(self.close_seen));
                    }
                    return effects;
                }
            }
        }
    }

    fn request(&mut self, request: HostMessage) -> Vec<Effect> {
        let kind = self.spec.options.kind;
        match request {
            HostMessage::Interrupt => self.conversation.interrupt(),
            HostMessage::Cancel => self.conversation.stop(Stop::Cancelled),
            HostMessage::Clear => self.conversation.renew(Renewal::Clear),
            HostMessage::SetModel { model } => {
                self.spec.options.model = Some(model);
                self.conversation.renew(Renewal::SameConversation)
            }
            HostMessage::Compact { instructions } if Abilities::of(kind).compacts => {
                self.conversation.compact(instructions)
            }
            HostMessage::Compact { .. } => {
                let text = format!("the {} agent cannot compact its conversation", kind.name());
                self.records.notice(text);
                vec![]
            }
            // A message is not a request; the inbox separates them.
            HostMessage::Message { .. } => vec![],
        }
    }

    /// Does what the conversation decided; `Some` at the end of the run.
    async fn carry_out(&mut self, effects: Vec<Effect>) -> Option<Exit> {
        for effect in effects {
            match effect {
                Effect::Start(resume) => {
                    if let Err(error) = self.records.begin().await {
                        return Some(unread(&error));
                    }
                    let spec = AgentSpec {
                        resume,
                        ..self.spec.clone()
                    };
                    self.watchdog.restart(Instant::now());
                    self.agent = Some(Agent::start(spec));
                }
                Effect::Command(command) => {
                    // Whatever it is given to do, its time begins now.
                    if command != AgentCommand::Interrupt {
                        self.watchdog.sign_of_life(Instant::now());
                    }
                    self.outbox.push_back(command);
                }
                Effect::Stop => {
                    self.outbox.clear();
                    self.stop_deadline = Some(Instant::now() + STOP_DEADLINE);
                    if let Some(agent) = &self.agent {
                        agent.stop();
                    }
                }
                Effect::Confirm(id) => self.inbox.confirm(id),
                Effect::Write(record) => {
                    if let Err(error) = self.records.write(*record).await {
                        return Some(unread(&error));
                    }
                }
                Effect::End(exit) => return Some(exit),
            }
        }
        None
    }
}

/// The end of a run whose host does not listen.
fn unread(error: &io::Error) -> Exit {
    tracing::error!("the host does not read records: {error}");
    Exit::Infrastructure
}

/// The agent's next event; `None` when it has ended.
async fn next_event(agent: &mut Option<Agent>) -> Option<AgentEvent> {
    agent.as_mut()?.events.recv().await
}

/// Passes the first waiting command on as soon as the agent accepts it.
async fn send_next(commands: Option<Sender<AgentCommand>>, outbox: &mut VecDeque<AgentCommand>) {
    let Some(commands) = commands else { return };
    match commands.reserve().await {
        Ok(permit) => {
            if let Some(command) = outbox.pop_front() {
                permit.send(command);
            }
        }
        // The agent has ended; its last events say how.
        Err(_) => outbox.clear(),
    }
}

/// Waits for a deadline; without one, indefinitely.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
