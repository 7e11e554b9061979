//! The small agent inside the runner itself: the Messages API, streamed, in
//! plain HTTP to the credential proxy, and one tool, a shell.
//!
//! A turn is a loop: send the conversation, run the tools the model asks for,
//! send their results, until it answers without a tool. What the user writes
//! meanwhile joins the next request. Every message is on disk before it is
//! acknowledged, so a conversation survives a kill at any point.

mod api;
mod mailbox;
mod reply;
mod session;
mod shell;

use std::path::Path;
use std::time::Duration;

use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::protocol::{ErrorKind, Usage};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::types::{Activity, AgentEvent, AgentLink, AgentSpec, Failure, Outcome, TurnEnd};
use api::Client;
use mailbox::{Cut, Mailbox};
use reply::{Reply, ToolCall};
use session::{Message, Session, SessionError};
use shell::Shell;

/// Most model calls in one turn when the run's document does not say.
const MAX_CALLS: u32 = 100;
/// Longest wait for a conversation that another run holds.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Pause between two looks at it; a file lock has no event.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Drives the agent until its input is closed or it is asked to stop.
pub(super) async fn drive(spec: AgentSpec, link: AgentLink) -> Result<(), Failure> {
    let client = Client::new(&spec)?;
    let events = Events(link.events);
    let session = open_session(&spec, &events).await?;
    events.send(AgentEvent::Session(session.id().clone())).await;
    let version = concat!("builtin ", env!("CARGO_PKG_VERSION")).to_owned();
    events.send(AgentEvent::Version(version)).await;
    let mut agent = Builtin {
        client,
        session,
        events,
        mailbox: Mailbox::new(link.commands, link.stop),
        max_calls: spec.options.max_turns.unwrap_or(MAX_CALLS),
        shell: Shell::new(&spec),
    };
    while agent.mailbox.wait().await {
        agent.events.send(AgentEvent::Busy).await;
        let end = agent.turn().await;
        agent.events.send(AgentEvent::TurnEnd(end)).await;
        if agent.mailbox.is_stopped() {
            break;
        }
        if agent.mailbox.is_empty() {
            agent.events.send(AgentEvent::Idle).await;
        }
    }
    Ok(())
}

/// Resumes the conversation, or starts a new one and reports it.
async fn open_session(spec: &AgentSpec, events: &Events) -> Result<Session, Failure> {
    if let Some(id) = &spec.resume {
        match resume(&spec.home, id).await {
            Ok(session) => return Ok(session),
            Err(error) if error.is_lost() => {
                events.send(AgentEvent::Warning(error.to_string())).await;
                events.send(AgentEvent::SessionLost(id.clone())).await;
            }
            Err(error) => return Err(Failure::new(ErrorKind::StartUp, error.describe())),
        }
    }
    Session::create(&spec.home).map_err(|error| Failure::new(ErrorKind::StartUp, error.describe()))
}

/// Opens a conversation; a run that is just ending may still hold it.
async fn resume(home: &Path, id: &AgentSessionId) -> Result<Session, SessionError> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match Session::resume(home, id) {
            Err(SessionError::InUse(_)) if Instant::now() < deadline => sleep(LOCK_PAUSE).await,
            other => return other,
        }
    }
}

struct Builtin {
    client: Client,
    session: Session,
    events: Events,
    mailbox: Mailbox,
    max_calls: u32,
    shell: Shell,
}

/// Why a turn ended without an answer.
enum Broken {
    Cut,
    Failed(Failure),
}

impl From<Cut> for Broken {
    fn from(_: Cut) -> Self {
        Self::Cut
    }
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Builtin {
    /// One turn, from the messages that wait to the answer.
    async fn turn(&mut self) -> TurnEnd {
        let mut usage = Usage::default();
        let mut calls = 0;
        let outcome = match self.answer(&mut usage, &mut calls).await {
            Ok(answer) => Outcome::Answer(answer),
            Err(Broken::Cut) => Outcome::Interrupted,
            Err(Broken::Failed(failure)) => Outcome::Failed(failure),
        };
        TurnEnd {
            outcome,
            usage: Some(usage),
            cost_usd: None,
            model_calls: Some(calls),
        }
    }

    async fn answer(
        &mut self,
        usage: &mut Usage,
        calls: &mut u32,
    ) -> Result<Option<String>, Broken> {
        self.add_user_content(Vec::new()).await?;
        while *calls < self.max_calls {
            *calls += 1;
            let request = self.client.request(self.session.messages());
            let call = self.client.call(request, &self.events);
            let reply = self.mailbox.watch(call).await??;
            add(usage, reply.usage);
            let text = reply.text();
            let tools = reply.tool_calls();
            self.save(Message::assistant(reply.content.clone()))?;
            if tools.is_empty() {
                if let Some(warning) = check_ending(&reply)? {
                    self.events.send(AgentEvent::Warning(warning)).await;
                }
                if !reply.wants_to_go_on() {
                    return Ok(text);
                }
            } else {
                if let Some(text) = text {
                    let activity = Activity::Text(text);
                    self.events.send(AgentEvent::Activity(activity)).await;
                }
                self.use_tools(tools).await?;
            }
        }
        let message = format!("stopped after {} model calls in one turn", self.max_calls);
        Err(Failure::new(ErrorKind::Budget, message).into())
    }

    /// Runs the tools and saves their results, with what the user wrote
    /// meanwhile. After a cut the rest is answered too: the API demands a result
    /// for every call.
    async fn use_tools(&mut self, tools: Vec<ToolCall>) -> Result<(), Broken> {
        let mut results = Vec::new();
        let mut cut = None;
        for tool in tools {
            let result = match cut {
                None => self.use_tool(&tool).await,
                Some(cut) => Err(cut),
            };
            let result = result.unwrap_or_else(|by| {
                cut = Some(by);
                shell::Output::failed("The user interrupted before this command finished.")
            });
            results.push(json!({
                "type": "tool_result",
                "tool_use_id": tool.id,
                "content": result.text,
                "is_error": result.is_error,
            }));
        }
        self.add_user_content(results).await?;
        cut.map_or(Ok(()), |cut| Err(cut.into()))
    }

    async fn use_tool(&mut self, tool: &ToolCall) -> Result<shell::Output, Cut> {
        let call = match shell::Call::parse(tool) {
            Ok(call) => call,
            Err(reason) => return Ok(shell::Output::failed(&reason)),
        };
        self.events
            .send(AgentEvent::Activity(Activity::ToolStart {
                id: tool.id.clone(),
                name: tool.name.clone(),
                timeout: Some(call.timeout),
            }))
            .await;
        let output = self.mailbox.watch(self.shell.run(&call)).await;
        let end = Activity::ToolEnd {
            id: tool.id.clone(),
        };
        self.events.send(AgentEvent::Activity(end)).await;
        output
    }

    /// Saves `content` and all that waits in the mailbox as one user message,
    /// and acknowledges what came from the mailbox.
    async fn add_user_content(&mut self, mut content: Vec<Value>) -> Result<(), Failure> {
        let waiting = self.mailbox.take();
        content.extend(
            waiting
                .iter()
                .map(|message| json!({"type": "text", "text": message.text})),
        );
        if content.is_empty() {
            return Ok(());
        }
        self.save(Message::user(content))?;
        for message in waiting {
            self.events.send(AgentEvent::Received(message.id)).await;
        }
        Ok(())
    }

    fn save(&mut self, message: Message) -> Result<(), Failure> {
        self.session
            .append(message)
            .map_err(|error| Failure::crash(format!("cannot save the conversation: {error}")))
    }
}

/// The warning about, or the failure of, a reply that was cut short.
fn check_ending(reply: &Reply) -> Result<Option<String>, Failure> {
    match reply.stop_reason.as_deref() {
        Some("max_tokens") => Ok(Some("the answer was cut at the output limit".to_owned())),
        Some("refusal") => Err(Failure::new(ErrorKind::Api, "the model refused to answer")),
        Some("model_context_window_exceeded") => Err(Failure::new(
            ErrorKind::Context,
            "the conversation is too long for the model",
        )),
        _ => Ok(None),
    }
}

fn add(total: &mut Usage, more: Usage) {
    total.input_tokens += more.input_tokens;
    total.output_tokens += more.output_tokens;
    total.cache_read_tokens += more.cache_read_tokens;
    total.cache_write_tokens += more.cache_write_tokens;
}

/// The way to the supervisor.
struct Events(mpsc::Sender<AgentEvent>);

impl Events {
    async fn send(&self, event: AgentEvent) {
        // Nobody listens only when the run is over; the mailbox sees that too.
        let _ = self.0.send(event).await;
    }
}

#[cfg(test)]
mod tests;
