//! What is about to be started, settled before anything is.

use std::path::PathBuf;

use drawbridge_shared::ids::{GroupName, RunId};
use drawbridge_shared::protocol::{AgentOptions, RunInput, RunOptions, RunPaths};
use rustix::process::{Resource, getrlimit};
use tokio::process::Command;

use super::{Endpoint, Place, View};
use crate::config::{RunSettings, SandboxChoice};
use crate::engine::sandbox::Sandbox;
use crate::engine::{Engine, Isolation, Runtime, run_args};
use crate::error::{Context, Error, Result};
use crate::events::Event;
use crate::process::Argv;
use crate::requests::Snapshot;
use crate::spec::{
    Access, HOME, IPC, Limits, Mount, RunSpec, SOCKET_FOLDER, Scratch, TimeZone, User, WORKSPACE,
};
use crate::state::{Group, RunFolder, State};

/// The program of a run, and what is known about it beforehand.
#[derive(Debug)]
pub(super) struct Plan {
    run: RunId,
    group: GroupName,
    isolation: Isolation,
    argv: Argv,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A container with this name.
    Container(Engine, String),
    /// A process with this folder for temporary files.
    Host { scratch: PathBuf },
}

/// What a plan is made from.
struct Parts<'a> {
    run: &'a RunId,
    runtime: &'a Runtime,
    state: &'a State,
    settings: &'a RunSettings,
    endpoint: &'a Endpoint,
    folder: &'a RunFolder,
    view: &'a View,
}

impl Plan {
    pub(super) fn of(
        place: &Place<'_>,
        settings: &RunSettings,
        endpoint: &Endpoint,
        folder: &RunFolder,
        view: &View,
        group: &mut Group,
    ) -> Result<Self> {
        let parts = Parts {
            run: place.run,
            runtime: place.runtime,
            state: place.state,
            settings,
            endpoint,
            folder,
            view,
        };
        Self::made_from(&parts, group)
    }

    fn made_from(parts: &Parts<'_>, group: &mut Group) -> Result<Self> {
        let settings = parts.settings;
        let (argv, mut isolation, kind) = match parts.runtime {
            Runtime::Container(engine, facts) => {
                let user = settings.agent_user()?;
                if user != User::of_launcher() {
                    group.give_to(user)?;
                }
                let spec = spec(parts, group, user)?;
                let argv = Argv::new(engine.program(), run_args(*engine, facts, &spec));
                let isolation = Isolation::of_container(&spec, facts);
                (argv, isolation, Kind::Container(*engine, spec.name))
            }
            Runtime::Host => {
                let scratch = parts.folder.scratch()?;
                let runner = Argv::runner(["run"]);
                let argv = match (settings.sandbox, parts.endpoint.port()) {
                    (SandboxChoice::Landlock, Some(port)) => {
                        let own = [
                            group.workspace(),
                            group.home(),
                            group.ipc(),
                            scratch.clone(),
                        ];
                        let seen = parts.view.on_this_machine()?;
                        Sandbox::new(own.into(), parts.state.root(), port)
                            .with(seen.write, seen.hide)
                            .around(runner)
                    }
                    _ => runner,
                };
                let isolation = Isolation::of_host(settings.sandbox);
                (argv, isolation, Kind::Host { scratch })
            }
        };
        isolation.mounts = parts.view.shown(parts.runtime);
        isolation.masked = match settings.sandbox {
            SandboxChoice::Off if !isolation.isolated => 0,
            _ => parts.view.hidden(),
        };
        Ok(Self {
            run: parts.run.clone(),
            group: group.name().clone(),
            isolation,
            argv: argv.tied(),
            kind,
        })
    }

    /// The same with another subcommand of the runner; on the host, `run` is
    /// the last word of the argument list.
    pub(super) fn with_runner_args(mut self, args: Vec<String>) -> Self {
        if !args.is_empty() && matches!(self.kind, Kind::Host { .. }) {
            self.argv.args.pop();
        }
        self.argv.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(super) const fn run(&self) -> &RunId {
        &self.run
    }

    pub(super) const fn runtime(&self) -> &'static str {
        match &self.kind {
            Kind::Container(engine, _) => engine.program(),
            Kind::Host { .. } => "host",
        }
    }

    /// The engine and the container's name, if there is one.
    pub(super) fn container(&self) -> Option<(Engine, &str)> {
        match &self.kind {
            Kind::Container(engine, name) => Some((*engine, name)),
            Kind::Host { .. } => None,
        }
    }

    pub(super) fn command(&self) -> Command {
        match &self.kind {
            Kind::Container(..) => self.argv.engine_command(),
            Kind::Host { scratch } => {
                let mut command = self.argv.host_command();
                command.env("TMPDIR", scratch);
                command
            }
        }
    }

    pub(super) fn start_event(&self, settings: &RunSettings) -> Event {
        let image = self.container().map(|_| settings.image.to_string());
        Event::Start {
            run: self.run.clone(),
            runtime: self.runtime(),
            group: self.group.clone(),
            agent: settings.agent,
            image,
            isolation: self.isolation.clone(),
        }
    }
}

/// The container of a run.
fn spec(parts: &Parts<'_>, group: &Group, user: User) -> Result<RunSpec> {
    let settings = parts.settings;
    Ok(RunSpec {
        run: parts.run.clone(),
        install: parts.state.install().clone(),
        name: format!("drawbridge-{}-{}", group.name(), parts.run),
        image: settings.image.clone(),
        user,
        network: parts.endpoint.network(),
        mounts: mounts(parts, group)?,
        limits: Limits {
            memory: settings.memory,
            cpus: settings.cpus.at_most_of_this_machine(),
            pids: settings.pids,
            open_files: at_most(65_536, Resource::Nofile),
            processes: at_most(32_768, Resource::Nproc),
            file_size: settings.file_size,
        },
        scratch: Scratch {
            size: settings.tmp_size,
            exec: settings.tmp_exec,
        },
        time_zone: TimeZone::of_host(),
    })
}

/// Not more than the launcher may have itself: an engine without all rights
/// could not give more.
fn at_most(enough: u64, resource: Resource) -> u64 {
    let own = getrlimit(resource).maximum;
    own.map_or(enough, |own| own.min(enough))
}

fn mounts(parts: &Parts<'_>, group: &Group) -> Result<Vec<Mount>> {
    let mut mounts = vec![
        (group.workspace(), WORKSPACE, Access::Write),
        (group.ipc(), IPC, Access::Write),
        (group.home(), HOME, Access::Write),
    ];
    if parts.endpoint.is_socket() {
        let socket_folder = parts.folder.socket_folder().to_owned();
        mounts.push((socket_folder, SOCKET_FOLDER, Access::Read));
    }
    let mounts: Result<Vec<_>, _> = mounts
        .into_iter()
        .map(|(source, target, access)| Mount::new(source, target, access))
        .collect();
    let mut mounts = mounts.context(|| Error::not_started("the state folder cannot be mounted"))?;
    mounts.extend(parts.view.mounts(parts.folder)?);
    Ok(mounts)
}

/// The agent, for the run input.
pub(super) fn agent(settings: &RunSettings, program: Vec<String>) -> AgentOptions {
    AgentOptions {
        command: program,
        model: settings.model.clone(),
        ..AgentOptions::new(settings.agent)
    }
}

/// What the runner has to know about the folders that the agent sees.
pub(super) fn seen(
    runtime: &Runtime,
    group: &Group,
    view: &View,
    folder: &RunFolder,
) -> Result<RunOptions> {
    Ok(RunOptions {
        paths: paths(runtime, group, view),
        extra_folders: view.extra_folders(runtime),
        mounted_files: view.expected(runtime, folder)?,
        ..RunOptions::default()
    })
}

/// A container has fixed paths; on the host they are the group's own.
fn paths(runtime: &Runtime, group: &Group, view: &View) -> Option<RunPaths> {
    match runtime {
        Runtime::Container(..) => None,
        Runtime::Host => Some(RunPaths {
            workspace: group.workspace(),
            ipc: group.ipc(),
            home: group.home(),
            global: view.shared("global"),
            skills: view.shared("skills"),
            extra: None,
        }),
    }
}

/// The workspace, as the agent knows it.
pub(super) fn inside(runtime: &Runtime, group: &Group) -> PathBuf {
    match runtime {
        Runtime::Container(..) => WORKSPACE.into(),
        Runtime::Host => group.workspace(),
    }
}

pub(super) fn run_input(
    prompt: String,
    group: &Group,
    snapshot: &Snapshot,
    settings: &RunSettings,
    options: RunOptions,
) -> RunInput {
    RunInput {
        prompt,
        session_id: group.session(settings.agent).map(String::from),
        group_folder: group.name().to_string(),
        chat_jid: snapshot.jid_of(group.name()).unwrap_or_default().to_owned(),
        is_main: snapshot.is_main(group.name()),
        is_scheduled_task: false,
        assistant_name: None,
        script: None,
        drawbridge: Some(options),
    }
}
