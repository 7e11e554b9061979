//! Any agent that speaks the Agent Client Protocol, version 1: opencode and
//! Gemini CLI by profile, others by their command line.
//!
//! The protocol takes one prompt at a time, so what comes while the agent works
//! waits for the end of the turn. It has no receipts either: a message counts as
//! received when its turn has ended.

mod answer_buffer;
mod begin;
mod gemini;
mod opencode;
mod profile;
mod prompt;

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use super::rpc::{Incoming, Peer, RpcError};
use super::types::{Activity, AgentCommand, AgentEvent, AgentLink, AgentSpec, Failure, TurnEnd};
use crate::host::message::UserMessage;
use crate::process::child::ExitReport;
use begin::Begun;
use opencode::{ModelCall, ModelCalls};
use profile::Profile;
use prompt::Prompt;

/// Longest time for a cancelled turn to end when the run is stopped.
const CANCEL_GRACE: Duration = Duration::from_secs(1);
/// Longest time for a cancelled turn to end when the conversation goes on. Then
/// the agent is ended: opencode does not respond while it tries a model call
/// again.
const UNRESPONSIVE_AFTER: Duration = Duration::from_secs(10);
/// Longest time for a turn to end that is cancelled because it makes no
/// progress.
const GIVE_UP_GRACE: Duration = Duration::from_secs(3);
/// Longest time after the turn's end for events outside the protocol.
const IDLE_GRACE: Duration = Duration::from_secs(2);

/// Drives the agent until its input is closed or it is asked to stop.
pub(super) async fn drive(spec: AgentSpec, mut link: AgentLink) -> Result<(), Failure> {
    let profile = Profile::new(&spec)?;
    let mut peer = Peer::start(&spec.self_command, &profile.child, true)?;
    let stop = link.stop.clone();
    let begun = tokio::select! {
        () = stop.cancelled() => None,
        begun = open(&mut peer, &profile, &spec, &link) => Some(begun),
    };
    let (begun, calls) = match begun {
        Some(Ok(begun)) => begun,
        Some(Err(failure)) => {
            peer.stop(profile.stop).await;
            return Err(failure);
        }
        None => {
            peer.stop(profile.stop).await;
            return Ok(());
        }
    };
    let mut acp = Acp {
        peer,
        profile,
        begun,
        calls,
        waiting: VecDeque::new(),
        prompt: None,
    };
    acp.run(&mut link).await
}

/// Opens the conversation, and the connection on which the agent reports more
/// about it.
async fn open(
    peer: &mut Peer,
    profile: &Profile,
    spec: &AgentSpec,
    link: &AgentLink,
) -> Result<(Begun, Option<ModelCalls>), Failure> {
    let begun = begin::begin(peer, spec, link).await?;
    let Some(server) = &profile.server else {
        return Ok((begun, None));
    };
    let calls = match server.watch(&begun.session).await {
        Ok(calls) => Some(calls),
        Err(error) => {
            let text = format!("opencode's server does not report why calls fail: {error}");
            link.send(AgentEvent::Warning(text)).await;
            None
        }
    };
    Ok((begun, calls))
}

struct Acp {
    peer: Peer,
    profile: Profile,
    begun: Begun,
    /// Events about its model calls, where it reports them.
    calls: Option<ModelCalls>,
    /// Messages for the next prompt, oldest first.
    waiting: VecDeque<UserMessage>,
    prompt: Option<Prompt>,
}

impl Acp {
    async fn run(&mut self, link: &mut AgentLink) -> Result<(), Failure> {
        let mut is_closed = false;
        let mut has_commands = true;
        loop {
            self.pass_on(link).await?;
            if is_closed && self.prompt.is_none() {
                self.peer.stop(self.profile.close).await;
                return Ok(());
            }
            let unresponsive_at = self.prompt.as_ref().and_then(unresponsive_at);
            tokio::select! {
                () = link.stop.cancelled() => return self.stop(link).await,
                command = link.commands.recv(), if has_commands => match command {
                    Some(AgentCommand::Send(message)) => self.waiting.push_back(message),
                    Some(AgentCommand::Interrupt) => self.cancel()?,
                    // It cannot; nobody asks it to.
                    Some(AgentCommand::Compact(_)) => {}
                    Some(AgentCommand::Close) => is_closed = true,
                    None => {
                        has_commands = false;
                        is_closed = true;
                    }
                },
                incoming = self.peer.next() => match incoming {
                    Incoming::Exited(report) => return self.exited(&report, link).await,
                    incoming => self.incoming(incoming, link).await?,
                },
                call = next_call(&mut self.calls) => self.model_call(call, link).await?,
                () = sleep_until(unresponsive_at.unwrap_or_else(Instant::now)), if unresponsive_at.is_some() => {
                    return self.give_up(link).await;
                }
            }
        }
    }

    /// Ends an agent that does not end a cancelled turn. The turn is over with
    /// it; the next message starts another process, with the same conversation.
    async fn give_up(&mut self, link: &AgentLink) -> Result<(), Failure> {
        // Nobody asked for the end of a turn that gets nowhere.
        if self.prompt.as_ref().is_some_and(|it| !it.is_given_up()) {
            let text = "the agent did not react to the interrupt in time and was ended";
            link.send(AgentEvent::Notice(text.to_owned())).await;
        }
        self.end(link).await?;
        if self.abandon(link).await {
            return Ok(());
        }
        let text = "the agent was ended before it began to work on what it was sent";
        Err(Failure::crash(text))
    }

    /// Ends a cancelled turn that the agent has not ended. False if the agent
    /// may not have read its messages; they are still unacknowledged.
    async fn abandon(&mut self, link: &AgentLink) -> bool {
        if let Some(prompt) = self.prompt.take_if(|prompt| prompt.is_acknowledged()) {
            let (end, messages) = prompt.abandon();
            self.end_turn(end, messages, link).await;
        }
        self.prompt.is_none()
    }

    /// Begins a turn with all that waits, if none runs.
    async fn pass_on(&mut self, link: &AgentLink) -> Result<(), Failure> {
        if self.prompt.is_some() || self.waiting.is_empty() {
            return Ok(());
        }
        link.send(AgentEvent::Busy).await;
        let messages: Vec<_> = self.waiting.drain(..).collect();
        let texts = messages.iter().map(|message| message.text.as_str());
        // The protocol has no place for instructions, so they come first.
        let texts = self.begun.instructions.as_deref().into_iter().chain(texts);
        let blocks: Vec<_> = as_speech(texts.collect())
            .into_iter()
            .map(|text| json!({"type": "text", "text": text}))
            .collect();
        let params = json!({"sessionId": self.begun.session, "prompt": blocks});
        let request = self.peer.request("session/prompt", params)?;
        self.begun.instructions = None;
        self.prompt = Some(Prompt::new(request, messages));
        Ok(())
    }

    fn cancel(&mut self) -> Result<(), Failure> {
        let Some(prompt) = &mut self.prompt else {
            return Ok(());
        };
        prompt.cancel();
        let params = json!({"sessionId": self.begun.session});
        self.peer.notify("session/cancel", params)
    }

    /// Takes what became of a model call. A turn that gets nowhere is ended.
    async fn model_call(&mut self, call: ModelCall, link: &AgentLink) -> Result<(), Failure> {
        let Some(prompt) = &mut self.prompt else {
            return Ok(());
        };
        if let Some(activity) = prompt.model_call(call) {
            link.send(AgentEvent::Activity(activity)).await;
        }
        if prompt.is_given_up() && prompt.cancelled_at().is_none() {
            self.cancel()?;
        }
        Ok(())
    }

    async fn incoming(&mut self, incoming: Incoming, link: &AgentLink) -> Result<(), Failure> {
        match incoming {
            Incoming::Response(id, result) => self.response(id, result, link).await,
            Incoming::Request { id, method, params } => match approval(&method, &params) {
                Some(approval) => self.peer.answer(&id, &approval)?,
                None => self.peer.refuse(&id, &method)?,
            },
            Incoming::Notification { method, params } if method == "session/update" => {
                let events = match &mut self.prompt {
                    Some(prompt) => prompt.update(&params["update"]),
                    None => Vec::new(),
                };
                for activity in events {
                    link.send(AgentEvent::Activity(activity)).await;
                }
            }
            Incoming::Notification { .. } => {
                link.send(AgentEvent::Activity(Activity::Other)).await;
            }
            Incoming::Exited(_) => {}
        }
        Ok(())
    }

    async fn response(&mut self, id: u64, result: Result<Value, RpcError>, link: &AgentLink) {
        let Some(mut prompt) = self.prompt.take_if(|prompt| prompt.request == id) else {
            return;
        };
        if self.calls.is_some() {
            self.receive_model_calls(&mut prompt).await;
        }
        let (end, received, warning) = prompt.end(result);
        if let Some(warning) = warning {
            link.send(AgentEvent::Warning(warning)).await;
        }
        self.end_turn(end, received, link).await;
    }

    /// Receives the remaining events about the turn's model calls. They come on
    /// another connection than the turn's end, and mostly earlier.
    async fn receive_model_calls(&mut self, prompt: &mut Prompt) {
        let all = async {
            while !prompt.is_idle() {
                prompt.model_call(next_call(&mut self.calls).await);
            }
        };
        if timeout(IDLE_GRACE, all).await.is_err() {
            tracing::debug!("the agent did not report the end of its turn");
        }
    }

    async fn end_turn(&self, end: TurnEnd, received: Vec<UserMessage>, link: &AgentLink) {
        link.send(AgentEvent::TurnEnd(end)).await;
        for message in received {
            link.send(AgentEvent::Received(message.id)).await;
        }
        if self.waiting.is_empty() {
            link.send(AgentEvent::Idle).await;
        }
    }

    async fn exited(&mut self, report: &ExitReport, link: &AgentLink) -> Result<(), Failure> {
        if self.prompt.is_none() && report.status.success() {
            return Ok(());
        }
        // It was asked to stop, and has; the next message starts it again.
        let is_cancelled = |prompt: &Prompt| prompt.cancelled_at().is_some();
        if self.prompt.as_ref().is_some_and(is_cancelled) && self.abandon(link).await {
            return Ok(());
        }
        Err(Failure::crash(self.peer.describe(report)))
    }

    /// Ends the agent now; a running turn is cancelled first.
    async fn stop(&mut self, link: &AgentLink) -> Result<(), Failure> {
        self.cancel()?;
        let deadline = Instant::now() + CANCEL_GRACE;
        while self.prompt.is_some() {
            tokio::select! {
                () = sleep_until(deadline) => break,
                incoming = self.peer.next() => match incoming {
                    Incoming::Exited(_) => return Ok(()),
                    incoming => self.incoming(incoming, link).await?,
                },
            }
        }
        self.end(link).await
    }

    /// Ends the agent's process. Its output until the exit counts: the end of
    /// the turn.
    async fn end(&mut self, link: &AgentLink) -> Result<(), Failure> {
        let mut stopping = self.peer.begin_stop(self.profile.stop);
        loop {
            match self.peer.next_while(&mut stopping).await {
                Incoming::Exited(_) => return Ok(()),
                incoming => self.incoming(incoming, link).await?,
            }
        }
    }
}

/// The next event about a model call; pending forever where the agent reports
/// none.
async fn next_call(calls: &mut Option<ModelCalls>) -> ModelCall {
    if let Some(open) = calls {
        if let Some(call) = open.next().await {
            return call;
        }
        *calls = None;
    }
    std::future::pending().await
}

/// The time when an agent that was asked to stop counts as unresponsive. One
/// that retries a call again and again gets little time.
fn unresponsive_at(prompt: &Prompt) -> Option<Instant> {
    let patience = if prompt.is_given_up() {
        GIVE_UP_GRACE
    } else {
        UNRESPONSIVE_AFTER
    };
    prompt.cancelled_at().map(|at| at + patience)
}

/// Keeps chat text from being a command: agents look for one at the beginning
/// of all texts together, and the protocol has no way to say that there is none.
fn as_speech(mut texts: Vec<&str>) -> Vec<&str> {
    let is_like_a_command =
        |text: &&str| text.trim_start().starts_with(['/', '$']) || text.trim().is_empty();
    if texts.first().is_some_and(is_like_a_command) {
        texts.insert(0, "The user wrote:\n");
    }
    texts
}

/// The answer to a request for permission: the widest one that is offered. The
/// container is the sandbox. `None` for requests that nobody here can serve.
fn approval(method: &str, params: &Value) -> Option<Value> {
    if method != "session/request_permission" {
        return None;
    }
    let options = params["options"].as_array()?;
    let chosen = ["allow_always", "allow_once"]
        .iter()
        .find_map(|kind| options.iter().find(|option| option["kind"] == **kind));
    Some(match chosen {
        Some(option) => json!({"outcome": {
            "outcome": "selected", "optionId": option["optionId"],
        }}),
        None => json!({"outcome": {"outcome": "cancelled"}}),
    })
}
