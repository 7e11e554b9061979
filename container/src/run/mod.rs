//! One run, from its settings to its end.

pub(crate) mod broker;
mod control;
mod endpoint;
pub(crate) mod follow_ups;
mod monitor;
mod mounts;
mod plan;
mod prepare;
mod verdict;

use std::time::Duration;

use drawbridge_proxy::ProxyHandle;
use drawbridge_proxy::config::ProxyConfig;
use drawbridge_proxy::session::{SessionGuard, SessionSpec, Transport};
use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::{GroupName, Nonce, RunId};
use drawbridge_shared::marker::{DEFAULT_MAX_RECORD_BYTES, Markers, Scanner};
use drawbridge_shared::protocol::{RunInput, RunOptions};
use tokio_util::sync::CancellationToken;

use crate::config::{NetworkChoice, RunSettings};
use crate::engine::{RunNetwork, Runtime};
use crate::error::{Context, Error, Result};
use crate::events::{Event, Reporter};
use crate::process::Program;
use crate::process::interrupt::Interrupts;
use crate::requests::Snapshot;
use crate::state::{RunFolder, State};

use broker::{Requests, Responder};
use endpoint::Endpoint;
use monitor::{Conversation, End};
use mounts::View;

pub(crate) use control::RunControl;
pub(crate) use mounts::require_mountable;
pub(crate) use prepare::{require_program, responder};

/// How long requests that are under way may go on after the agent has ended.
const PROXY_DRAIN: Duration = Duration::from_secs(2);
/// How long the process of a run may take to end after it was asked to: longer
/// than the runner itself gives the agent.
const PROCESS_GRACE: Duration = Duration::from_secs(10);
/// What a session outlives its run by, when nobody revokes it.
const SESSION_MARGIN: Duration = Duration::from_secs(300);
/// Longest life of a session whose run has no time limit.
const LONGEST_SESSION: Duration = Duration::from_secs(30 * 86_400);

/// What to run.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) prompt: String,
    /// Group that is kept; without one nothing is.
    pub(crate) group: Option<GroupName>,
    pub(crate) settings: RunSettings,
    /// Program and arguments to run as the agent.
    pub(crate) program: Vec<String>,
    pub(crate) follow_ups: follow_ups::Source,
    /// The proxy's configuration; made before, so that a missing credential is
    /// refused before anything starts.
    pub(crate) proxy: ProxyConfig,
    /// Who answers what the agent asks for.
    pub(crate) responder: Responder,
    /// What the host knows of its groups and tasks.
    pub(crate) snapshot: Snapshot,
    /// Subcommand of the container's runner; a conversation when empty.
    pub(crate) runner_args: Vec<String>,
    /// Ends the run when cancelled; without one, the signals to this process do.
    pub(crate) stop: Option<CancellationToken>,
}

impl Request {
    /// A conversation of which nothing is kept, and whose prompt is still to
    /// be set.
    pub(crate) fn new(settings: RunSettings, proxy: ProxyConfig) -> Self {
        Self {
            prompt: String::new(),
            group: None,
            settings,
            program: Vec::new(),
            follow_ups: follow_ups::Source::None,
            responder: Responder::Program,
            snapshot: Snapshot::default(),
            proxy,
            runner_args: Vec::new(),
            stop: None,
        }
    }
}

/// Runs an agent to the end of its conversation.
///
/// Whatever happens, the container or process is gone when this returns, or the
/// error says that it is not.
pub(crate) async fn launch(request: Request, state: &State, reporter: Reporter) -> Result<Exit> {
    let settings = &request.settings;
    let runtime = Runtime::choose(settings.runtime, &settings.image).await?;
    runtime.require(settings)?;

    let run = RunId::random().context(no_randomness)?;
    let mut folder = state.new_run(&run)?;
    let network = match (&runtime, settings.network) {
        (Runtime::Container(engine, facts), NetworkChoice::Bridge) => {
            folder.note_engine(engine.program())?;
            let network = engine.create_network(facts, &run, state.install()).await?;
            Some((*engine, network))
        }
        _ => None,
    };
    let place = Place {
        run: &run,
        runtime: &runtime,
        network: network.as_ref().map(|(_, network)| network),
        state,
    };
    let done = converse(request, reporter, &place, &mut folder).await;
    if let Some((engine, _)) = network
        && let Err(error) = engine.remove_networks(&run).await
    {
        // The next command tries again to remove it.
        folder.keep();
        return done.and(Err(error));
    }
    done
}

/// Where a run takes place.
struct Place<'a> {
    run: &'a RunId,
    runtime: &'a Runtime,
    network: Option<&'a RunNetwork>,
    state: &'a State,
}

async fn converse(
    request: Request,
    reporter: Reporter,
    place: &Place<'_>,
    folder: &mut RunFolder,
) -> Result<Exit> {
    let (run, runtime, state) = (place.run, place.runtime, place.state);
    let mut interrupts = Interrupts::watch(request.stop)
        .context(|| Error::infrastructure("cannot watch for signals"))?;
    let settings = &request.settings;
    let mut group = match &request.group {
        Some(name) => state.group(name)?,
        None => folder.group()?,
    };
    let snapshot = request.snapshot.with(group.name());
    // It holds open what was checked, until the run is over.
    let view = View::check(settings, state, &group, &snapshot)?;
    let proxy = ProxyHandle::start(request.proxy)
        .context(|| Error::not_started("cannot start the credential proxy"))?;
    let endpoint = Endpoint::open(&proxy, runtime, place.network, folder)?;
    let session = issue_session(&proxy, run, &endpoint, settings)?;

    let nonce = Nonce::random().context(no_randomness)?;
    let markers = Markers::new(Some(&nonce));
    let input = RunOptions {
        run_id: Some(run.clone()),
        nonce: Some(nonce),
        agent: Some(plan::agent(settings, request.program)),
        proxy: Some(endpoint.access(&session, proxy.auth_mode())),
        progress: true,
        ..plan::seen(runtime, &group, &view, folder)?
    };
    let input = plan::run_input(request.prompt, &group, &snapshot, settings, input);
    let plan = plan::Plan::of(place, settings, &endpoint, folder, &view, &mut group)?
        .with_runner_args(request.runner_args);
    let inside = plan::inside(runtime, &group);
    let requests = Requests::open(&group, inside, snapshot, request.responder)?;
    reporter.report(&plan.start_event(settings));
    // If we die from here on, the record shows that the agent may have acted.
    tokio::select! {
        biased;
        () = interrupts.recv() => return Err(Error::new(Exit::Interrupted, "interrupted")),
        () = reporter.settled() => {}
    }
    let mut program = start(&plan, folder, &input, &session)?;

    let scanner = Scanner::new(markers, DEFAULT_MAX_RECORD_BYTES);
    let mut conversation =
        Conversation::new(run, &group, settings, reporter.clone(), scanner, requests);
    let follow_ups = request.follow_ups.start();
    let end = conversation
        .run(&mut program, follow_ups, &mut interrupts)
        .await;

    let stopped = stop(&plan, &mut program, end).await;
    conversation.drain(&mut program).await;
    let tally = conversation.finish().await;
    drop(session);
    drop(endpoint);
    proxy.shutdown(PROXY_DRAIN).await;
    let log = program.into_log().await;
    let reached_agent = tally.reached_agent();
    reporter.report(&Event::Stopped {
        reached_agent,
        log: log.lines(),
    });
    // If it could not be ended, the next command tries again.
    stopped?;
    folder.release();
    verdict::of(end, &tally, reached_agent, &log, runtime, settings)
}

fn no_randomness() -> Error {
    Error::infrastructure("the system has no random numbers")
}

/// A session for this run alone, good on its own listener only.
fn issue_session(
    proxy: &ProxyHandle,
    run: &RunId,
    endpoint: &Endpoint,
    settings: &RunSettings,
) -> Result<SessionGuard> {
    let lifetime = settings
        .timeout
        .map_or(LONGEST_SESSION, |timeout| timeout + SESSION_MARGIN);
    let mut spec = SessionSpec::new(run.clone(), lifetime);
    spec.transport = Transport::Listener(endpoint.listener());
    let sessions = proxy.sessions();
    sessions
        .issue(spec)
        .context(|| Error::infrastructure("cannot issue a session"))
}

/// Starts the program, after what it leaves behind has been written down.
fn start(
    plan: &plan::Plan,
    folder: &mut RunFolder,
    input: &RunInput,
    session: &SessionGuard,
) -> Result<Program> {
    if let Some((engine, name)) = plan.container() {
        folder.note_container(engine.program(), name)?;
    }
    let failed = || Error::not_started(format!("cannot start {}", plan.runtime()));
    let input = serde_json::to_vec(input).context(failed)?;
    let secret = session.token().to_owned();
    let program = Program::start(plan.command(), input, secret)
        .inspect_err(|_| folder.release())
        .context(failed)?;
    if let Some(pid) = program.pid() {
        folder.note_process(pid)?;
    }
    Ok(program)
}

/// Makes sure that nothing of the run is left.
async fn stop(plan: &plan::Plan, program: &mut Program, end: End) -> Result<()> {
    // The engine's program waits for the removal of its container, so after a
    // good end there is nothing to do.
    let has_ended_well = matches!(end, End::Exited(status) if status.success());
    let gone = match plan.container() {
        Some((engine, name)) if !has_ended_well => engine.stop(name, plan.run()).await,
        _ => Ok(()),
    };
    program.stop(PROCESS_GRACE).await;
    gone
}
