//! The conversation, from the run's document to the last record.
//!
//! Everything happens on one thread: the agent's events, the host's files and
//! signals are taken one at a time, handed to the [`Conversation`], and what it
//! decides is done before the next one is taken.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use drawbridge_shared::env;
use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::protocol::{
    AgentKind, AgentOptions, ProxyEndpoint, RunInput, RunOptions, RunPaths, RunRecord,
};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep_until};

use crate::SelfCommand;
use crate::agent::{Agent, AgentCommand, AgentEvent, AgentSpec, Failure, HostTools, ModelAccess};
use crate::cli::LifeArgs;
use crate::conversation::{Conversation, Effect};
use crate::inbox::Inbox;
use crate::input;
use crate::output::Output;
use crate::relay::Relay;
use crate::script_gate::{self, ScriptError, Verdict};
use crate::tied::{self, DeathSignal};

/// How long a stopped agent may take to end; less than what the outer process
/// grants us.
const STOP_DEADLINE: Duration = Duration::from_secs(6);

/// `agent-runner supervise`.
pub(crate) fn main(self_command: &SelfCommand, life: &LifeArgs) -> Exit {
    let started = SystemTime::now();
    if let Err(error) = tied::guard(life, DeathSignal::Kill) {
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

async fn run(self_command: &SelfCommand, started: SystemTime) -> Exit {
    let input = match input::read().await {
        Ok(input) => input,
        Err(unreadable) => {
            let output = Output::new(unreadable.nonce.as_ref(), unreadable.nonce.is_some());
            let text = format!("Failed to parse input: {}", unreadable.error);
            return refuse(&output, text).await;
        }
    };
    let options = input.drawbridge.as_ref();
    let nonce = options.and_then(|options| options.nonce.as_ref());
    let output = Output::new(nonce, options.is_some());
    let prompt = match ask_script(self_command, &input).await {
        Ok(Some(prompt)) => prompt,
        Ok(None) => return sleep_on(&output).await,
        Err(error) => return refuse(&output, format!("{:#}", anyhow::Error::from(error))).await,
    };
    match Supervisor::start(self_command, input, prompt, started, output.clone()).await {
        Ok((supervisor, begin)) => supervisor.supervise(begin).await,
        Err(error) => refuse(&output, format!("{error:#}")).await,
    }
}

/// The first prompt; `None` when the task's script sees nothing to do.
async fn ask_script(
    self_command: &SelfCommand,
    input: &RunInput,
) -> Result<Option<String>, ScriptError> {
    Ok(
        match script_gate::ask(self_command, input, &paths(input)).await? {
            Verdict::NoScript => Some(input::prompt(input)),
            Verdict::Wake(prompt) => Some(prompt),
            Verdict::Sleep => None,
        },
    )
}

/// Ends a run in which there is nothing to do.
async fn sleep_on(output: &Output) -> Exit {
    match output.write(RunRecord::answer(None, None)).await {
        Ok(()) => Exit::Success,
        Err(error) => {
            tracing::error!("cannot write the record: {error}");
            Exit::Infrastructure
        }
    }
}

/// Writes an error record instead of a conversation.
async fn refuse(output: &Output, text: String) -> Exit {
    tracing::error!("{text}");
    if let Err(error) = output.write(RunRecord::failure(text, None)).await {
        tracing::error!("cannot write the error record: {error}");
    }
    Exit::AgentFailed
}

struct Supervisor {
    output: Output,
    inbox: Inbox,
    conversation: Conversation,
    spec: AgentSpec,
    agent: Option<Agent>,
    /// What to tell the agent when it has room.
    outbox: VecDeque<AgentCommand>,
    signals: Signals,
    /// The host has asked for the end.
    close_seen: bool,
    /// When to give up on an agent that was told to stop.
    stop_deadline: Option<Instant>,
    /// Sealed mode's way out; it ends with the run.
    _relay: Option<Relay>,
}

impl Supervisor {
    async fn start(
        self_command: &SelfCommand,
        input: RunInput,
        prompt: String,
        started: SystemTime,
        output: Output,
    ) -> anyhow::Result<(Self, Vec<Effect>)> {
        let paths = paths(&input);
        let host_tools = HostTools::new(self_command, &input, &paths)
            .context("cannot find this program for the agent's tools")?;
        let options = input.drawbridge.unwrap_or_default();
        let (model_access, relay) = reach_proxy(&options).await?;
        let run_id = options.run_id.clone();
        let spec = AgentSpec {
            options: agent_options(options)?,
            resume: None,
            workspace: paths.workspace,
            home: paths.home,
            model_access,
            host_tools,
            self_command: self_command.clone(),
        };
        let signals = Signals::listen().context("cannot listen for signals")?;
        let mut inbox = Inbox::open(&paths.ipc, started, run_id)
            .with_context(|| format!("cannot open the input folder in {}", paths.ipc.display()))?;
        let prompt = inbox.join_to(prompt);
        let (conversation, effects) = Conversation::begin(session(input.session_id), prompt);
        let supervisor = Self {
            output,
            inbox,
            conversation,
            spec,
            agent: None,
            outbox: VecDeque::new(),
            signals,
            close_seen: false,
            stop_deadline: None,
            _relay: relay,
        };
        Ok((supervisor, effects))
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
        let deadline = self.stop_deadline;
        tokio::select! {
            () = self.signals.stop() => self.conversation.stop(),
            event = next_event(&mut self.agent), if has_agent => match event {
                Some(event) => self.agent_event(event),
                None => self.agent_ended().await,
            },
            () = tell_next(commands, &mut self.outbox), if has_agent && !self.outbox.is_empty() => vec![],
            () = self.inbox.changed() => self.read_inbox(),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                self.agent = None;
                let late = Failure::crash("the agent did not stop in time");
                self.conversation.agent_ended(Err(late))
            }
        }
    }

    fn agent_event(&mut self, event: AgentEvent) -> Vec<Effect> {
        match &event {
            AgentEvent::Warning(text) => tracing::warn!("{text}"),
            AgentEvent::SessionLost(id) => {
                tracing::warn!("conversation {id} does not exist any more; a new one was begun");
            }
            _ => {}
        }
        // Only these can change what the conversation does with the folder.
        let matters = matches!(event, AgentEvent::Idle | AgentEvent::Received(_));
        let mut effects = self.conversation.agent_event(event);
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
        let mut effects = self.conversation.agent_ended(outcome);
        effects.extend(self.read_inbox());
        effects
    }

    /// Hands over what waits in the folder. The request to close is looked for
    /// first, so that what was there before it is taken before it counts.
    fn read_inbox(&mut self) -> Vec<Effect> {
        self.close_seen |= self.inbox.take_close();
        let mut effects = Vec::new();
        while self.conversation.has_room() {
            match self.inbox.take() {
                Some(message) => effects.extend(self.conversation.message(message)),
                None => {
                    effects.extend(self.conversation.nothing_waits(self.close_seen));
                    break;
                }
            }
        }
        effects
    }

    /// Does what the conversation decided; `Some` at the end of the run.
    async fn carry_out(&mut self, effects: Vec<Effect>) -> Option<Exit> {
        for effect in effects {
            match effect {
                Effect::Start(resume) => {
                    let spec = AgentSpec {
                        resume,
                        ..self.spec.clone()
                    };
                    self.agent = Some(Agent::start(spec));
                }
                Effect::Tell(command) => self.outbox.push_back(command),
                Effect::Stop => {
                    self.outbox.clear();
                    self.stop_deadline = Some(Instant::now() + STOP_DEADLINE);
                    if let Some(agent) = &self.agent {
                        agent.stop();
                    }
                }
                Effect::Confirm(id) => self.inbox.confirm(id),
                Effect::Write(record) => {
                    if let Err(error) = self.output.write(*record).await {
                        tracing::error!("the host does not read records: {error}");
                        return Some(Exit::Infrastructure);
                    }
                }
                Effect::End(exit) => return Some(exit),
            }
        }
        None
    }
}

/// The agent's next event; `None` when it has ended.
async fn next_event(agent: &mut Option<Agent>) -> Option<AgentEvent> {
    agent.as_mut()?.events.recv().await
}

/// Passes the first waiting command on as soon as the agent has room for it.
async fn tell_next(commands: Option<Sender<AgentCommand>>, outbox: &mut VecDeque<AgentCommand>) {
    let Some(commands) = commands else { return };
    match commands.reserve().await {
        Ok(room) => {
            if let Some(command) = outbox.pop_front() {
                room.send(command);
            }
        }
        // The agent has ended; its last events say how.
        Err(_) => outbox.clear(),
    }
}

/// The signals that ask for the end of the run.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn stop(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// The folders of the run: those of the document, else a container's.
fn paths(input: &RunInput) -> RunPaths {
    let given = input
        .drawbridge
        .as_ref()
        .and_then(|options| options.paths.clone());
    given.unwrap_or_else(|| RunPaths {
        workspace: PathBuf::from("/workspace/group"),
        ipc: PathBuf::from("/workspace/ipc"),
        home: std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from),
        global: Some(PathBuf::from("/workspace/global")),
        extra: Some(PathBuf::from("/workspace/extra")),
        skills: Some(PathBuf::from("/workspace/skills")),
    })
}

/// The agent of the document, else the image's.
fn agent_options(options: RunOptions) -> anyhow::Result<AgentOptions> {
    if let Some(agent) = options.agent {
        return Ok(agent);
    }
    let names: Vec<_> = AgentKind::ALL.iter().map(|kind| kind.name()).collect();
    let kind = match std::env::var(env::DRAWBRIDGE_AGENT) {
        Err(_) => AgentKind::Claude,
        Ok(name) => *AgentKind::ALL
            .iter()
            .find(|kind| kind.name() == name)
            .with_context(|| {
                format!(
                    "{}={name:?} is not one of {}",
                    env::DRAWBRIDGE_AGENT,
                    names.join(", ")
                )
            })?,
    };
    Ok(AgentOptions::new(kind))
}

/// How the agent gets to the proxy; in sealed mode through a relay of our own.
async fn reach_proxy(options: &RunOptions) -> anyhow::Result<(Option<ModelAccess>, Option<Relay>)> {
    let Some(access) = &options.proxy else {
        return Ok((None, None));
    };
    let (base_url, relay) = match &access.endpoint {
        ProxyEndpoint::Url(url) => (url.trim_end_matches('/').to_owned(), None),
        ProxyEndpoint::Unix(socket) => {
            let relay = Relay::start(socket.clone())
                .await
                .context("cannot open a loopback port for the proxy")?;
            (relay.base_url(), Some(relay))
        }
    };
    let access = ModelAccess {
        base_url,
        token: access.token.clone(),
        auth_mode: access.auth_mode,
    };
    Ok((Some(access), relay))
}

/// The conversation to go on with. One whose id cannot be one is not resumed.
fn session(id: Option<String>) -> Option<AgentSessionId> {
    let id = id.filter(|id| !id.is_empty())?;
    id.parse()
        .inspect_err(|error| tracing::warn!("a new conversation is begun: {error}"))
        .ok()
}
