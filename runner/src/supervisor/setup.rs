//! From the run's document to what the supervisor starts with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use drawbridge_shared::env;
use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::protocol::{
    AgentArgsError, AgentKind, AgentOptions, ProxyEndpoint, RunInput, RunOptions, RunPaths,
    check_agent_args,
};

use super::script_gate::{self, Decision, ScriptError};
use super::watchdog;
use crate::agent::{AgentSpec, HostTools, ModelAccess};
use crate::host::inbox::Inbox;
use crate::host::input;
use crate::host::mounts;
use crate::host::relay::Relay;
use crate::self_command::SelfCommand;

/// Largest `CLAUDE.md` of all groups, in bytes.
const MAX_GLOBAL_INSTRUCTIONS: u64 = 1024 * 1024;

/// A run that can begin.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) paths: RunPaths,
    pub(crate) spec: AgentSpec,
    pub(crate) inbox: Inbox,
    /// The first turn, before waiting messages are joined to it.
    pub(crate) prompt: String,
    pub(crate) resume: Option<AgentSessionId>,
    /// A notice for a person, sent with the first answer.
    pub(crate) notice: Option<String>,
    pub(crate) progress: bool,
    pub(crate) stuck_after: Duration,
    /// Sealed mode's egress; it ends with the run.
    pub(crate) relay: Option<Relay>,
}

/// Whether a run begins at all.
#[derive(Debug)]
pub(crate) enum Beginning {
    Run(Box<Setup>),
    /// The script of the scheduled task sees no need to wake the agent.
    Skipped,
}

/// The failure to prepare a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error(transparent)]
    Mount(#[from] mounts::MountChanged),
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error("cannot find this program for the agent's tools")]
    HostTools(#[source] io::Error),
    #[error("cannot open the input folder in {}", .folder.display())]
    Inbox { folder: PathBuf, source: io::Error },
    #[error("{}={name:?} is not one of {}", env::DRAWBRIDGE_AGENT, agent_names())]
    UnknownAgent { name: String },
    #[error("`agent.extraArgs`")]
    AgentArgs(#[from] AgentArgsError),
    #[error("cannot open a loopback port for the proxy")]
    Relay(#[source] io::Error),
}

fn agent_names() -> String {
    AgentKind::ALL.map(AgentKind::name).join(", ")
}

/// Prepares a run.
///
/// # Errors
/// Something that the run needs is wrong or missing.
pub(crate) async fn prepare(
    self_command: &SelfCommand,
    input: RunInput,
    started: SystemTime,
) -> Result<Beginning, SetupError> {
    let options = input.drawbridge.clone().unwrap_or_default();
    let paths = options.paths.clone().unwrap_or_else(container_paths);
    mounts::verify(&options.mounted_files)?;
    // First of all: a run that does not happen takes nothing from the inbox.
    let prompt = match script_gate::ask(self_command, &input, &paths).await? {
        Decision::NoScript => input::prompt(&input),
        Decision::Wake(prompt) => prompt,
        Decision::Sleep => return Ok(Beginning::Skipped),
    };
    let (model_access, relay) = reach_proxy(&options).await?;
    let host_tools = HostTools::new(self_command, &input, &paths).map_err(SetupError::HostTools)?;
    let run_id = options.run_id.clone();
    let inbox = Inbox::open(&paths.ipc, &paths.workspace, started, run_id).map_err(|source| {
        let folder = paths.ipc.clone();
        SetupError::Inbox { folder, source }
    })?;
    let (resume, notice) = session(input.session_id.as_deref());
    let stuck_after = options.stuck_after_seconds.map(Duration::from_secs);
    let progress = options.progress;
    let spec = AgentSpec {
        resume: None,
        workspace: paths.workspace.clone(),
        home: paths.home.clone(),
        model_access,
        host_tools,
        self_command: self_command.clone(),
        append_system_prompt: global_instructions(&paths, input.is_main),
        extra_folders: extra_folders(&paths, &options.extra_folders),
        assistant_name: input.assistant_name,
        skills: paths.skills.clone().filter(|folder| folder.is_dir()),
        transcripts: options.transcripts.unwrap_or_default(),
        options: agent_options(options)?,
    };
    Ok(Beginning::Run(Box::new(Setup {
        paths,
        spec,
        inbox,
        prompt,
        resume,
        notice,
        progress,
        stuck_after: stuck_after.unwrap_or(watchdog::USUAL_LIMIT),
        relay,
    })))
}

/// The folders of a container.
fn container_paths() -> RunPaths {
    RunPaths {
        workspace: PathBuf::from("/workspace/group"),
        ipc: PathBuf::from("/workspace/ipc"),
        home: std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from),
        global: Some(PathBuf::from("/workspace/global")),
        extra: Some(PathBuf::from("/workspace/extra")),
        skills: Some(PathBuf::from("/workspace/skills")),
    }
}

/// The agent of the document, else the image's.
fn agent_options(options: RunOptions) -> Result<AgentOptions, SetupError> {
    if let Some(agent) = options.agent {
        check_agent_args(agent.kind, &agent.extra_args)?;
        return Ok(agent);
    }
    let kind = match std::env::var(env::DRAWBRIDGE_AGENT) {
        Err(_) => AgentKind::Claude,
        Ok(name) => *AgentKind::ALL
            .iter()
            .find(|kind| kind.name() == name)
            .ok_or(SetupError::UnknownAgent { name })?,
    };
    Ok(AgentOptions::new(kind))
}

/// The agent's access to the proxy; in sealed mode through a relay of our own.
async fn reach_proxy(
    options: &RunOptions,
) -> Result<(Option<ModelAccess>, Option<Relay>), SetupError> {
    let Some(access) = &options.proxy else {
        return Ok((None, None));
    };
    let (base_url, relay) = match &access.endpoint {
        ProxyEndpoint::Url(url) => (url.trim_end_matches('/').to_owned(), None),
        ProxyEndpoint::Unix(socket) => {
            let relay = Relay::start(socket.clone())
                .await
                .map_err(SetupError::Relay)?;
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

/// The conversation to go on with. One whose id cannot be one is not resumed,
/// and a notice says so.
fn session(id: Option<&str>) -> (Option<AgentSessionId>, Option<String>) {
    match id.filter(|id| !id.is_empty()).map(str::parse) {
        None => (None, None),
        Some(Ok(id)) => (Some(id), None),
        Some(Err(error)) => {
            let notice = format!("a new conversation is begun: {error}");
            tracing::warn!("{notice}");
            (None, Some(notice))
        }
    }
}

/// The instructions that all groups but the main one share.
fn global_instructions(paths: &RunPaths, is_main: bool) -> Option<String> {
    let file = paths.global.as_ref()?.join("CLAUDE.md");
    let length = fs::metadata(&file)
        .ok()
        .filter(fs::Metadata::is_file)?
        .len();
    if is_main {
        return None;
    }
    if length > MAX_GLOBAL_INSTRUCTIONS {
        tracing::warn!("{} is too large and left out", file.display());
        return None;
    }
    fs::read(&file)
        .inspect_err(|error| tracing::warn!("cannot read {}: {error}", file.display()))
        .ok()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .filter(|text| !text.trim().is_empty())
}

/// The folders in the folder of extra folders, in the order of their names,
/// followed by those the document names.
fn extra_folders(paths: &RunPaths, further: &[PathBuf]) -> Vec<PathBuf> {
    let entries = paths.extra.as_deref().map(Path::read_dir);
    let mut folders: Vec<_> = entries
        .into_iter()
        .flatten()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders.extend_from_slice(further);
    folders
}
