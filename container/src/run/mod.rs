//! One run, from its settings to its end.

pub(crate) mod broker;
mod context;
mod control;
mod endpoint;
pub(crate) mod follow_ups;
mod input;
mod monitor;
mod mounts;
mod outcome;
mod plan;
mod prepare;

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
use crate::spec::User;
use crate::state::{RunFolder, State};

use broker::{Requests, Responder};
use context::RunContext;
use endpoint::Endpoint;
use monitor::{End, RunMonitor};
use mounts::RunMounts;
use plan::Plan;

pub(crate) use control::RunControl;
pub(crate) use mounts::require_mountable;
pub(crate) use prepare::{require_program, responder};

/// Longest time for requests in flight after the agent has ended.
const PROXY_DRAIN: Duration = Duration::from_secs(2);
/// Longest time for the process of a run to end after it was asked to: longer
/// than the runner itself gives the agent.
const PROCESS_GRACE: Duration = Duration::from_secs(10);
/// The time by which a session outlives its run, when nobody revokes it.
const SESSION_MARGIN: Duration = Duration::from_secs(300);
/// Longest life of a session whose run has no time limit.
const LONGEST_SESSION: Duration = Duration::from_secs(30 * 86_400);

/// A request for a run.
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
    /// The responder to the agent's requests.
    pub(crate) responder: Responder,
    /// The host's groups and tasks.
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
    let settings = request.settings.clone();
    let runtime = Runtime::choose(settings.runtime, &settings.image).await?;
    runtime.require(&settings)?;
    let user = match runtime {
        Runtime::Container(..) => settings.agent_user()?,
        Runtime::Host => User::of_launcher(),
    };
    let run = RunId::random().context(no_randomness)?;
    let folder = state.new_run(&run)?;
    let mut context = RunContext {
        run,
        state,
        settings,
        runtime,
        user,
        folder,
        network: None,
    };
    context.network = create_network(&mut context).await?;
    let done = converse(request, reporter, &mut context).await;
    if let Err(error) = remove_network(&context).await {
        // The next command tries again to remove it.
        context.folder.keep();
        return done.and(Err(error));
    }
    done
}

/// Creates the run's own network, if its container is not to be sealed.
async fn create_network(context: &mut RunContext<'_>) -> Result<Option<RunNetwork>> {
    let (Runtime::Container(engine, facts), NetworkChoice::Bridge) =
        (&context.runtime, context.settings.network)
    else {
        return Ok(None);
    };
    context.folder.note_engine(engine.program())?;
    let install = context.state.install();
    let network = engine.create_network(facts, &context.run, install).await?;
    Ok(Some(network))
}

async fn remove_network(context: &RunContext<'_>) -> Result<()> {
    match (&context.runtime, &context.network) {
        (Runtime::Container(engine, _), Some(_)) => engine.remove_networks(&context.run).await,
        _ => Ok(()),
    }
}

/// Starts the agent, passes messages and answers on, and stops what is left.
async fn converse(
    request: Request,
    reporter: Reporter,
    context: &mut RunContext<'_>,
) -> Result<Exit> {
    let mut interrupts = Interrupts::watch(request.stop)
        .context(|| Error::infrastructure("cannot watch for signals"))?;
    let mut group = context.open_group(request.group.as_ref())?;
    let snapshot = request.snapshot.with(group.name());
    // They hold open what was checked, until the run is over.
    let mounts = RunMounts::check(context, &group, &snapshot)?;
    let proxy = ProxyHandle::start(request.proxy)
        .context(|| Error::not_started("cannot start the credential proxy"))?;
    let endpoint = Endpoint::open(&proxy, context)?;
    let session = issue_session(&proxy, &endpoint, context)?;

    context.prepare_folders(&mut group)?;
    mounts.make_covers(&context.runtime)?;
    let plan = Plan::new(context, &group, &mounts, &endpoint, &request.runner_args)?;
    let nonce = Nonce::random().context(no_randomness)?;
    let markers = Markers::new(Some(&nonce));
    let options = RunOptions {
        nonce: Some(nonce),
        proxy: Some(endpoint.access(&session, proxy.auth_mode())),
        ..input::options(context, &group, &mounts, request.program)?
    };
    let input = input::run_input(request.prompt, context, &group, &snapshot, options);
    let inside = input::workspace(&context.runtime, &group);
    let requests = Requests::open(&group, inside, snapshot, request.responder)?;

    reporter.report(plan.start_event(&context.settings));
    // If we die from here on, the record shows that the agent may have acted.
    tokio::select! {
        biased;
        () = interrupts.recv() => return Err(Error::new(Exit::Interrupted, "interrupted")),
        () = reporter.persisted() => {}
    }
    let mut program = start(&plan, &mut context.folder, &input, &session)?;
    let scanner = Scanner::new(markers, DEFAULT_MAX_RECORD_BYTES);
    let mut monitor = RunMonitor::new(context, &group, reporter.clone(), scanner, requests);
    let follow_ups = request.follow_ups.start();
    let end = monitor.run(&mut program, follow_ups, &mut interrupts).await;

    let stopped = stop(&plan, &mut program, end).await;
    monitor.drain(&mut program).await;
    let tally = monitor.finish().await;
    drop((session, endpoint));
    proxy.shutdown(PROXY_DRAIN).await;
    let log = program.into_log().await;
    reporter.report(Event::Stopped {
        reached_agent: tally.reached_agent(),
        log: log.lines(),
    });
    // If it could not be stopped, the next command tries again.
    stopped?;
    context.folder.release();
    outcome::of(end, &tally, &log, context)
}

fn no_randomness() -> Error {
    Error::infrastructure("the system has no random numbers")
}

/// A session for this run alone, good on its own listener only.
fn issue_session(
    proxy: &ProxyHandle,
    endpoint: &Endpoint,
    context: &RunContext<'_>,
) -> Result<SessionGuard> {
    let lifetime = context
        .settings
        .timeout
        .map_or(LONGEST_SESSION, |timeout| timeout + SESSION_MARGIN);
    let mut spec = SessionSpec::new(context.run.clone(), lifetime);
    spec.transport = Transport::Listener(endpoint.listener());
    let sessions = proxy.sessions();
    sessions
        .issue(spec)
        .context(|| Error::infrastructure("cannot issue a session"))
}

/// Starts the program, after what it leaves behind has been written down.
fn start(
    plan: &Plan,
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
async fn stop(plan: &Plan, program: &mut Program, end: End) -> Result<()> {
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
