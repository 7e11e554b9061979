//! The agents the runner can drive, behind one stream of events.
//!
//! Each agent is a function `drive(spec, link)` that runs as a task: it takes
//! [`AgentCommand`]s from the link and sends [`AgentEvent`]s to it. It returns
//! when the agent has ended. What an agent's protocol cannot do is reported as a
//! [`AgentEvent::Warning`], not faked.

mod abilities;
mod acp;
mod api_error;
mod builtin;
mod claude;
mod codex;
mod command;
mod host_tools;
mod rpc;
mod types;

use drawbridge_shared::protocol::AgentKind;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use abilities::Abilities;
pub(crate) use host_tools::HostTools;
use types::AgentLink;
pub(crate) use types::{
    Activity, AgentCommand, AgentEvent, AgentSpec, Failure, ModelAccess, Outcome, TurnEnd,
};

/// Commands that wait for an agent. The supervisor keeps the rest itself.
const COMMANDS: usize = 16;
/// Events that wait for the supervisor before the agent's output is left unread.
const EVENTS: usize = 256;

/// A running agent, as the supervisor sees it.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Commands to the agent; reserve capacity in a `select!`, so that sending
    /// does not block.
    pub(crate) commands: mpsc::Sender<AgentCommand>,
    /// Events; `None` when the agent has ended.
    pub(crate) events: mpsc::Receiver<AgentEvent>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Failure>>,
}

impl Agent {
    /// Starts the agent as a task of the current runtime.
    pub(crate) fn start(spec: AgentSpec) -> Self {
        let (commands, command_receiver) = mpsc::channel(COMMANDS);
        let (event_sender, events) = mpsc::channel(EVENTS);
        let stop = CancellationToken::new();
        let link = AgentLink {
            commands: command_receiver,
            events: event_sender,
            stop: stop.clone(),
        };
        let task = match spec.options.kind {
            AgentKind::Claude => tokio::spawn(claude::drive(spec, link)),
            AgentKind::Command => tokio::spawn(command::drive(spec, link)),
            AgentKind::Builtin => tokio::spawn(builtin::drive(spec, link)),
            AgentKind::Codex => tokio::spawn(codex::drive(spec, link)),
            AgentKind::Opencode | AgentKind::Gemini | AgentKind::Acp => {
                tokio::spawn(acp::drive(spec, link))
            }
        };
        Self {
            commands,
            events,
            stop,
            task,
        }
    }

    /// Asks the agent to stop now; its events go on until it has.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// The agent's outcome. Call it when the events have ended.
    pub(crate) async fn outcome(self) -> Result<(), Failure> {
        match self.task.await {
            Ok(outcome) => outcome,
            Err(error) => Err(Failure::crash(format!(
                "the agent's driver failed: {error}"
            ))),
        }
    }
}
