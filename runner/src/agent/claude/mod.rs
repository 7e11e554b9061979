//! Claude Code over its stream-json control protocol.
//!
//! One process serves the whole conversation; messages are written to it at any
//! time. What Claude Code does with them is its own affair: it merges messages
//! into one turn, folds them into the running one, starts turns unasked. So
//! messages and results are never counted against each other. A message is
//! received when its `command_lifecycle` says `completed` or `cancelled`: at
//! `queued` and `started` it is in no transcript yet, and a Claude Code killed
//! then has lost it (seen with 2.1.329).

mod acks;
mod answers;
mod classify;
mod ending;
mod home;
mod launch;
mod wire;

use std::time::Duration;

use drawbridge_io::lines::Line;
use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::protocol::ErrorKind;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::types::{
    Activity, AgentCommand, AgentEvent, AgentLink, AgentSpec, Failure, Outcome, TurnEnd,
};
use crate::host::message::{MessageId, UserMessage};
use crate::process::child::{ChildEvent, LineChild, StopLadder};
use acks::Acks;
use answers::Answers;
use wire::{Message, TurnResult};

/// Longest time for Claude Code to write its first line.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// The end of a stopped run; within what the supervisor grants.
const STOP: StopLadder = StopLadder {
    eof: Duration::from_secs(1),
    term: Duration::from_secs(2),
};
/// Longest time for Claude Code to exit after its input was closed and nothing
/// was pending: a background shell that never ends would keep it running.
const EXIT_GRACE: Duration = Duration::from_secs(10);
/// Silence after a result after which a version that does not report its state,
/// or that of messages, counts as idle.
const QUIET: Duration = Duration::from_secs(3);

/// Drives Claude Code until its input is closed or it is asked to stop.
pub(super) async fn drive(spec: AgentSpec, mut link: AgentLink) -> Result<(), Failure> {
    let mut resume = home::prepare(&spec, &link).await;
    let mut unsent = Vec::new();
    loop {
        let mut claude = Claude::start(&spec, resume.as_ref())?;
        for message in unsent {
            claude.send(message)?;
        }
        match claude.run(&mut link).await? {
            End::Done => return Ok(()),
            End::SessionMissing(messages) => {
                unsent = messages;
                if let Some(lost) = resume.take() {
                    link.send(AgentEvent::SessionLost(lost)).await;
                }
            }
        }
    }
}

/// One process of Claude Code.
struct Claude {
    child: LineChild,
    answers: Answers,
    resumes: bool,
    acks: Acks,
    session: Option<AgentSessionId>,
    has_spoken: bool,
    /// The conversation that was to be resumed does not exist.
    session_missing: bool,
    /// The result that came before any turn began.
    start_failure: Option<Failure>,
    interrupted: bool,
    busy: bool,
    reports_state: bool,
    /// When to take silence for idleness, in a version that does not report it.
    quiet_at: Option<Instant>,
    last_result_failed: bool,
    /// Cost so far. At the start of a resumed conversation it is not known.
    cost_usd: Option<f64>,
}

enum End {
    Done,
    /// With the messages that were sent to the process.
    SessionMissing(Vec<UserMessage>),
}

impl Claude {
    fn start(spec: &AgentSpec, resume: Option<&AgentSessionId>) -> Result<Self, Failure> {
        let child = LineChild::spawn(&spec.self_command, &launch::child_spec(spec, resume))
            .map_err(|error| start_failure(format!("cannot start Claude Code: {error}")))?;
        let claude = Self {
            child,
            answers: Answers::new(spec),
            resumes: resume.is_some(),
            acks: Acks::default(),
            session: None,
            has_spoken: false,
            session_missing: false,
            start_failure: None,
            interrupted: false,
            busy: false,
            reports_state: false,
            quiet_at: None,
            last_result_failed: false,
            cost_usd: resume.is_none().then_some(0.0),
        };
        claude.write(&wire::initialize(spec.append_system_prompt.as_deref()))?;
        Ok(claude)
    }

    async fn run(mut self, link: &mut AgentLink) -> Result<End, Failure> {
        let start_deadline = Instant::now() + START_DEADLINE;
        let mut exit_deadline: Option<Instant> = None;
        let mut has_commands = true;
        loop {
            let quiet_at = self.quiet_at;
            tokio::select! {
                () = link.stop.cancelled() => return self.stop(link).await,
                command = link.commands.recv(), if has_commands => match command {
                    Some(AgentCommand::Send(message)) => self.send(message)?,
                    Some(AgentCommand::Interrupt) => self.interrupt()?,
                    Some(AgentCommand::Compact(instructions)) => {
                        self.write(&wire::compact(instructions.as_deref()))?;
                    }
                    Some(AgentCommand::Close) | None => {
                        has_commands = false;
                        self.child.close_stdin();
                        exit_deadline = Some(Instant::now() + EXIT_GRACE);
                    }
                },
                event = self.child.next() => match event {
                    ChildEvent::Line(line) => self.line(line, link).await?,
                    ChildEvent::Exited(report) => return self.exited(&report, link).await,
                },
                answer = self.answers.next() => self.write(&answer)?,
                () = sleep_until(start_deadline), if !self.has_spoken => {
                    self.child.stop(STOP).await;
                    let text = format!("Claude Code wrote nothing for {} s", START_DEADLINE.as_secs());
                    return Err(Failure::new(ErrorKind::Timeout, text));
                }
                () = sleep_until(quiet_at.unwrap_or(start_deadline)), if quiet_at.is_some() => {
                    self.quiet_at = None;
                    report_received(self.acks.silent(), link).await;
                    self.idle(link).await;
                }
                () = sleep_until(exit_deadline.unwrap_or(start_deadline)), if exit_deadline.is_some() && !self.busy => {
                    link.send(AgentEvent::Warning("Claude Code keeps running and is ended".into())).await;
                    return self.end(STOP, link).await;
                }
            }
        }
    }

    fn write(&self, line: &Value) -> Result<(), Failure> {
        let bytes = line.to_string().into_bytes();
        let written = self.child.write_line(bytes);
        written.map_err(|stalled| Failure::crash(stalled.to_string()))
    }

    fn send(&mut self, message: UserMessage) -> Result<(), Failure> {
        let line = wire::user_message(&message);
        self.acks.sent(message);
        self.quiet_at = None;
        self.write(&line)
    }

    fn is_working(&self) -> bool {
        self.busy || !self.acks.is_empty()
    }

    fn interrupt(&mut self) -> Result<(), Failure> {
        self.interrupted = self.is_working();
        self.write(&wire::control_request(&json!({ "subtype": "interrupt" })))
    }

    async fn line(&mut self, line: Line, link: &AgentLink) -> Result<(), Failure> {
        self.has_spoken = true;
        let line = match line {
            // Anything else is not for us, for example a library's notice.
            Line::Whole(line) if line.first() == Some(&b'{') => line,
            Line::Whole(_) => return Ok(()),
            Line::TooLong { length, .. } => {
                let text = format!("a line of {length} bytes from Claude Code was skipped");
                link.send(AgentEvent::Warning(text)).await;
                return Ok(());
            }
        };
        match wire::parse(&line) {
            Ok(message) => self.message(message, link).await,
            Err(error) => {
                let text = format!("a line from Claude Code cannot be read: {error}");
                link.send(AgentEvent::Warning(text)).await;
                Ok(())
            }
        }
    }

    async fn message(&mut self, message: Message, link: &AgentLink) -> Result<(), Failure> {
        match message {
            Message::Init(init) => self.turn_begins(init, link).await,
            Message::State(state) => {
                self.reports_state = true;
                match state.state.as_str() {
                    "running" => self.begin_work(link).await,
                    "idle" => self.idle(link).await,
                    _ => {}
                }
            }
            Message::Result(result) => self.result(*result, link).await,
            Message::Lifecycle(lifecycle) => {
                let id = MessageId(lifecycle.command_uuid);
                let received = self.acks.lifecycle(id, &lifecycle.state);
                report_received(received, link).await;
            }
            Message::Request(request) => {
                if let Some(answer) = self.answers.to(&request) {
                    self.write(&answer)?;
                }
            }
            Message::Compacting => link.send(AgentEvent::Activity(Activity::Compaction)).await,
            Message::Retry(retry) => {
                let error = retry
                    .error
                    .unwrap_or_else(|| "the model call failed".to_owned());
                let status = retry
                    .error_status
                    .map_or_else(String::new, |s| format!(" ({s})"));
                let text = format!("{error}{status}, attempt {}", retry.attempt);
                link.send(AgentEvent::Activity(Activity::Retry(text))).await;
            }
            Message::Assistant(assistant) => {
                for activity in classify::activities(assistant) {
                    link.send(AgentEvent::Activity(activity)).await;
                }
            }
            Message::ToolResults(blocks) => {
                for id in blocks.into_iter().filter_map(|block| block.tool_use_id) {
                    link.send(AgentEvent::Activity(Activity::ToolEnd { id }))
                        .await;
                }
            }
            Message::Other => link.send(AgentEvent::Activity(Activity::Other)).await,
        }
        Ok(())
    }

    async fn turn_begins(&mut self, init: wire::Init, link: &AgentLink) {
        if self.session.is_none() {
            if let Some(version) = init.claude_code_version {
                if let Some(notice) = classify::notice_about(&version) {
                    link.send(AgentEvent::Notice(notice)).await;
                }
                link.send(AgentEvent::Version(version)).await;
            }
            for server in init.mcp_servers {
                if server.status != "connected" && server.status != "pending" {
                    let text = format!("tool server {} is {}", server.name, server.status);
                    link.send(AgentEvent::Warning(text)).await;
                }
            }
        }
        match init.session_id.parse::<AgentSessionId>() {
            Ok(id) if self.session.as_ref() != Some(&id) => {
                self.session = Some(id.clone());
                link.send(AgentEvent::Session(id)).await;
            }
            Ok(_) => {}
            Err(error) => link.send(AgentEvent::Warning(error.to_string())).await,
        }
        self.acks.turn_begins();
        self.begin_work(link).await;
    }

    async fn begin_work(&mut self, link: &AgentLink) {
        self.quiet_at = None;
        if !self.busy {
            self.busy = true;
            link.send(AgentEvent::Busy).await;
        }
    }

    async fn idle(&mut self, link: &AgentLink) {
        report_received(self.acks.idle(), link).await;
        if self.acks.wait_for_silence() {
            self.quiet_at = Some(Instant::now() + QUIET);
        }
        self.busy = false;
        link.send(AgentEvent::Idle).await;
    }

    async fn result(&mut self, result: TurnResult, link: &AgentLink) {
        if self.session.is_none() && result.is_error {
            let failure = classify::failure(&result);
            self.session_missing = self.resumes && classify::is_missing_session(&failure.message);
            self.start_failure = Some(Failure::new(ErrorKind::StartUp, failure.message));
            return;
        }
        let turn = self.turn_end(&result);
        self.last_result_failed = matches!(turn.outcome, Outcome::Failed(_));
        link.send(AgentEvent::TurnEnd(turn)).await;
        report_received(self.acks.turn_ends(), link).await;
        if !self.reports_state {
            self.quiet_at = Some(Instant::now() + QUIET);
        }
    }

    fn turn_end(&mut self, result: &TurnResult) -> TurnEnd {
        let interrupted = std::mem::take(&mut self.interrupted);
        let cost_usd = classify::cost(result, self.cost_usd);
        self.cost_usd = result.total_cost_usd.or(self.cost_usd);
        TurnEnd {
            outcome: classify::outcome(result, interrupted),
            usage: result.usage.map(Into::into),
            cost_usd,
            model_calls: result.num_turns,
        }
    }
}

async fn report_received(ids: Vec<MessageId>, link: &AgentLink) {
    for id in ids {
        link.send(AgentEvent::Received(id)).await;
    }
}

fn start_failure(text: String) -> Failure {
    Failure::new(ErrorKind::StartUp, text)
}
