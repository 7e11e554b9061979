//! Codex over its app-server protocol, as recorded from version 0.169.0.
//!
//! One process serves the whole conversation. A message that comes while a turn
//! runs steers that turn. A message is received when Codex reports it as an item
//! of the conversation, under the id we gave it.

mod begin;
mod launch;
mod turn;

use std::collections::VecDeque;
use std::time::Duration;

use drawbridge_shared::protocol::ErrorKind;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::rpc::{Incoming, Peer, RpcError};
use super::types::{
    Activity, AgentCommand, AgentEvent, AgentLink, AgentSpec, Failure, Outcome, TurnEnd,
};
use crate::host::message::UserMessage;
use crate::process::child::{ExitReport, StopLadder};
use begin::warn_of_failed_tools;
use turn::Turn;

/// Longest time for an interrupted turn to end when the run is stopped.
const INTERRUPT_GRACE: Duration = Duration::from_secs(1);
/// Longest time for Codex to exit once its input is closed.
const EXIT_GRACE: Duration = Duration::from_secs(10);
/// The end of a stopped run; within what the supervisor grants.
const STOP: StopLadder = StopLadder {
    eof: Duration::from_secs(1),
    term: Duration::from_secs(2),
};

/// Drives Codex until its input is closed or it is asked to stop.
pub(super) async fn drive(spec: AgentSpec, mut link: AgentLink) -> Result<(), Failure> {
    let mut peer = Peer::start(&spec.self_command, &launch::child_spec(&spec)?, false)?;
    let stop = link.stop.clone();
    let started = tokio::select! {
        () = stop.cancelled() => None,
        thread = begin::begin(&mut peer, &spec, &link) => Some(thread),
    };
    let thread = match started {
        Some(Ok(thread)) => thread,
        Some(Err(failure)) => {
            peer.stop(STOP).await;
            return Err(failure);
        }
        None => {
            peer.stop(STOP).await;
            return Ok(());
        }
    };
    let mut codex = Codex {
        peer,
        thread,
        waiting: VecDeque::new(),
        turn: None,
        is_closed: false,
        compaction: Compaction::No,
    };
    codex.run(&mut link).await
}

struct Codex {
    peer: Peer,
    thread: String,
    /// Messages for the next request, oldest first.
    waiting: VecDeque<UserMessage>,
    turn: Option<Turn>,
    is_closed: bool,
    compaction: Compaction,
}

/// A summary of the conversation that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compaction {
    No,
    /// It is begun when the turn has ended.
    Wanted,
    /// By the request of this id.
    Running(u64),
}

impl Codex {
    async fn run(&mut self, link: &mut AgentLink) -> Result<(), Failure> {
        let mut exit_deadline: Option<Instant> = None;
        let mut has_commands = true;
        loop {
            self.pass_on(link).await?;
            if self.is_closed && self.has_nothing_pending() && exit_deadline.is_none() {
                self.peer.close();
                exit_deadline = Some(Instant::now() + EXIT_GRACE);
            }
            tokio::select! {
                () = link.stop.cancelled() => return self.stop(link).await,
                command = link.commands.recv(), if has_commands => match command {
                    Some(AgentCommand::Send(message)) => self.waiting.push_back(message),
                    Some(AgentCommand::Interrupt) => self.interrupt()?,
                    Some(AgentCommand::Compact(_)) => self.compaction = Compaction::Wanted,
                    Some(AgentCommand::Close) => self.is_closed = true,
                    None => {
                        has_commands = false;
                        self.is_closed = true;
                    }
                },
                incoming = self.peer.next() => match incoming {
                    Incoming::Exited(report) => return self.exited(&report),
                    incoming => self.incoming(incoming, link).await?,
                },
                () = sleep_until(exit_deadline.unwrap_or_else(Instant::now)), if exit_deadline.is_some() => {
                    self.peer.stop(STOP).await;
                    return Ok(());
                }
            }
        }
    }

    /// Hands waiting messages to Codex as soon as it can take them.
    async fn pass_on(&mut self, link: &AgentLink) -> Result<(), Failure> {
        match &mut self.turn {
            None if self.compaction == Compaction::Wanted => {
                let params = json!({"threadId": self.thread});
                let request = self.peer.request("thread/compact/start", params)?;
                self.compaction = Compaction::Running(request);
            }
            None if self.waiting.is_empty() || self.compaction != Compaction::No => {}
            None => {
                link.send(AgentEvent::Busy).await;
                let mut turn = Turn::default();
                // The first message begins the turn; the others steer it.
                if let Some(message) = self.waiting.pop_front() {
                    let params = input(&self.thread, &message);
                    let request = self.peer.request("turn/start", params)?;
                    turn.begun_by(request, message);
                }
                self.turn = Some(turn);
            }
            Some(turn) => {
                if let Some(id) = turn.steerable() {
                    while let Some(message) = self.waiting.pop_front() {
                        let mut params = input(&self.thread, &message);
                        params["expectedTurnId"] = id.as_str().into();
                        let request = self.peer.request("turn/steer", params)?;
                        turn.steered_by(request, message);
                    }
                }
            }
        }
        Ok(())
    }

    fn interrupt(&mut self) -> Result<(), Failure> {
        if let Some(turn) = &mut self.turn {
            match turn.interrupt() {
                Some(id) => {
                    let params = json!({"threadId": self.thread, "turnId": id});
                    self.peer.request("turn/interrupt", params)?;
                }
                // It has no id yet; it is interrupted when it has.
                None => tracing::debug!("the turn to interrupt has not begun"),
            }
        }
        Ok(())
    }

    async fn incoming(&mut self, incoming: Incoming, link: &AgentLink) -> Result<(), Failure> {
        match incoming {
            Incoming::Response(id, result) => self.response(id, result, link).await,
            Incoming::Request { id, method, .. } => match launch::approval(&method) {
                Some(approval) => self.peer.answer(&id, &approval),
                None => self.peer.refuse(&id, &method),
            },
            Incoming::Notification { method, params } => {
                self.notification(&method, params, link).await
            }
            Incoming::Exited(_) => Ok(()),
        }
    }

    async fn response(
        &mut self,
        id: u64,
        result: Result<Value, RpcError>,
        link: &AgentLink,
    ) -> Result<(), Failure> {
        let Some(turn) = &mut self.turn else {
            if let Err(error) = result
                && self.compaction == Compaction::Running(id)
            {
                let text = format!("codex did not compact: {}", error.describe());
                link.send(AgentEvent::Warning(text)).await;
                self.compacted(link).await;
            }
            return Ok(());
        };
        match result {
            Ok(answer) => {
                if turn.is_begun_by(id) {
                    turn.set_id(answer["turn"]["id"].as_str());
                }
                if turn.wants_interrupt() {
                    self.interrupt()?;
                }
            }
            // A turn that has just ended cannot be steered; the message waits
            // for the next one.
            Err(error) => match turn.refused(id) {
                Some((message, false)) => self.waiting.push_front(message),
                Some((message, true)) => {
                    let text = format!("codex refused the message: {}", error.describe());
                    link.send(AgentEvent::Received(message.id)).await;
                    self.end_turn(Outcome::Failed(Failure::new(ErrorKind::Api, text)), link)
                        .await;
                }
                None => {}
            },
        }
        Ok(())
    }

    async fn notification(
        &mut self,
        method: &str,
        params: Value,
        link: &AgentLink,
    ) -> Result<(), Failure> {
        let Some(turn) = &mut self.turn else {
            self.between_turns(method, &params, link).await;
            return Ok(());
        };
        match method {
            "turn/started" => {
                turn.set_id(params["turn"]["id"].as_str());
                if turn.wants_interrupt() {
                    self.interrupt()?;
                }
            }
            "turn/completed" => {
                if turn.is(params["turn"]["id"].as_str()) {
                    let outcome = turn.outcome(&params["turn"]);
                    self.end_turn(outcome, link).await;
                }
            }
            "thread/tokenUsage/updated" => turn.count(&params["tokenUsage"]),
            "thread/compacted" => activity(Activity::Compaction, link).await,
            "error" if params["willRetry"] == true => {
                turn.retries(&params["error"]);
                let text = params["error"]["message"].as_str().unwrap_or_default();
                activity(Activity::Retry(text.to_owned()), link).await;
            }
            "item/started" | "item/completed" => {
                for event in turn.item(&params["item"], method == "item/completed") {
                    link.send(event).await;
                }
            }
            _ => {
                warn_of_failed_tools(method, &params, link).await;
                activity(Activity::Other, link).await;
            }
        }
        Ok(())
    }

    /// Handles a notification that comes while none of our turns runs.
    async fn between_turns(&mut self, method: &str, params: &Value, link: &AgentLink) {
        let is_compacting = matches!(self.compaction, Compaction::Running(_));
        match method {
            "turn/completed" if is_compacting => self.compacted(link).await,
            "turn/started" if !is_compacting => {
                // A turn that nobody asked for.
                let mut turn = Turn::default();
                turn.set_id(params["turn"]["id"].as_str());
                self.turn = Some(turn);
                link.send(AgentEvent::Busy).await;
            }
            "item/started" if is_compacting => activity(Activity::Compaction, link).await,
            _ => warn_of_failed_tools(method, params, link).await,
        }
    }

    async fn compacted(&mut self, link: &AgentLink) {
        self.compaction = Compaction::No;
        if self.waiting.is_empty() {
            link.send(AgentEvent::Idle).await;
        }
    }

    fn has_nothing_pending(&self) -> bool {
        self.turn.is_none() && self.waiting.is_empty() && self.compaction == Compaction::No
    }

    async fn end_turn(&mut self, outcome: Outcome, link: &AgentLink) {
        let Some(turn) = self.turn.take() else { return };
        let (usage, model_calls) = turn.usage();
        let (begun_with, steered_with) = turn.unreceived();
        link.send(AgentEvent::TurnEnd(TurnEnd {
            outcome,
            usage,
            cost_usd: None,
            model_calls,
        }))
        .await;
        // Its turn is over, so it is in the conversation, item or not.
        for message in begun_with {
            link.send(AgentEvent::Received(message.id)).await;
        }
        // What the turn did not take any more begins the next one.
        for message in steered_with.into_iter().rev() {
            self.waiting.push_front(message);
        }
        if self.has_nothing_pending() {
            link.send(AgentEvent::Idle).await;
        }
    }

    fn exited(&self, report: &ExitReport) -> Result<(), Failure> {
        match self.turn {
            Some(_) => Err(Failure::crash(self.peer.describe(report))),
            None if self.is_closed || report.status.success() => Ok(()),
            None => Err(Failure::crash(self.peer.describe(report))),
        }
    }

    /// Ends the agent now; a running turn is interrupted first.
    async fn stop(&mut self, link: &AgentLink) -> Result<(), Failure> {
        if self.turn.is_some() {
            self.interrupt()?;
            let deadline = Instant::now() + INTERRUPT_GRACE;
            while self.turn.is_some() {
                tokio::select! {
                    () = sleep_until(deadline) => break,
                    incoming = self.peer.next() => match incoming {
                        Incoming::Exited(_) => return Ok(()),
                        incoming => self.incoming(incoming, link).await?,
                    },
                }
            }
        }
        // Its output until the exit counts: a receipt, an answer.
        let mut stopping = self.peer.begin_stop(STOP);
        loop {
            match self.peer.next_while(&mut stopping).await {
                Incoming::Exited(_) => return Ok(()),
                incoming => self.incoming(incoming, link).await?,
            }
        }
    }
}

fn input(thread: &str, message: &UserMessage) -> Value {
    json!({
        "threadId": thread,
        "clientUserMessageId": message.id.0.to_string(),
        "input": [{"type": "text", "text": message.text}],
    })
}

async fn activity(activity: Activity, link: &AgentLink) {
    link.send(AgentEvent::Activity(activity)).await;
}
