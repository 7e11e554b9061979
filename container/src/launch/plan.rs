//! What is about to be started, settled before anything is.

use std::path::PathBuf;

use drawbridge_shared::ids::{GroupName, RunId};
use drawbridge_shared::protocol::{AgentOptions, RunInput, RunOptions, RunPaths};
use tokio::process::Command;

use super::Endpoint;
use crate::config::{RunSettings, SandboxChoice};
use crate::error::{Context, Error, Result};
use crate::events::Event;
use crate::ipc::Snapshot;
use crate::process::Argv;
use crate::runtime::{Engine, Isolation, Runtime, run_args};
use crate::sandbox::Sandbox;
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

impl Plan {
    pub(super) fn of(
        run: &RunId,
        runtime: &Runtime,
        settings: &RunSettings,
        endpoint: &Endpoint,
        state: &State,
        folder: &RunFolder,
        group: &mut Group,
    ) -> Result<Self> {
        let (argv, isolation, kind) = match runtime {
            Runtime::Container(engine, facts) => {
                if User::of_launcher() != User::of_agent() {
                    group.give_to(User::of_agent())?;
                }
                let spec = RunSpec {
                    run: run.clone(),
                    install: state.install().clone(),
                    name: format!("drawbridge-{}-{run}", group.name()),
                    image: settings.image.clone(),
                    user: User::of_agent(),
                    network: endpoint.network(),
                    mounts: mounts(endpoint, folder, group)?,
                    limits: Limits {
                        memory: settings.memory,
                        cpus: settings.cpus.at_most_of_this_machine(),
                        pids: settings.pids,
                    },
                    scratch: Scratch {
                        size: settings.tmp_size,
                        exec: settings.tmp_exec,
                    },
                    time_zone: TimeZone::of_host(),
                };
                let argv = Argv::new(engine.program(), run_args(*engine, facts, &spec));
                let isolation = Isolation::of_container(&spec, facts);
                (argv, isolation, Kind::Container(*engine, spec.name))
            }
            Runtime::Host => {
                let scratch = folder.scratch()?;
                let runner = Argv::runner(["run"]);
                let argv = match (settings.sandbox, endpoint.port()) {
                    (SandboxChoice::Landlock, Some(port)) => {
                        let write = [
                            group.workspace(),
                            group.home(),
                            group.ipc(),
                            scratch.clone(),
                        ];
                        Sandbox::new(write.into(), state.root(), port).around(runner)
                    }
                    _ => runner,
                };
                let isolation = Isolation::of_host(settings.sandbox);
                (argv, isolation, Kind::Host { scratch })
            }
        };
        Ok(Self {
            run: run.clone(),
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

fn mounts(endpoint: &Endpoint, folder: &RunFolder, group: &Group) -> Result<Vec<Mount>> {
    let mut mounts = vec![
        (group.workspace(), WORKSPACE, Access::Write),
        (group.ipc(), IPC, Access::Write),
        (group.home(), HOME, Access::Write),
    ];
    if endpoint.is_socket() {
        let socket_folder = folder.socket_folder().to_owned();
        mounts.push((socket_folder, SOCKET_FOLDER, Access::Read));
    }
    let mounts: Result<Vec<_>, _> = mounts
        .into_iter()
        .map(|(source, target, access)| Mount::new(source, target, access))
        .collect();
    mounts.context(|| Error::not_started("the state folder cannot be mounted"))
}

/// The agent, for the run input.
pub(super) fn agent(settings: &RunSettings, program: Vec<String>) -> AgentOptions {
    AgentOptions {
        command: program,
        model: settings.model.clone(),
        ..AgentOptions::new(settings.agent)
    }
}

/// A container has fixed paths; on the host they are the group's own.
pub(super) fn paths(runtime: &Runtime, group: &Group) -> Option<RunPaths> {
    match runtime {
        Runtime::Container(..) => None,
        Runtime::Host => Some(RunPaths {
            workspace: group.workspace(),
            ipc: group.ipc(),
            home: group.home(),
            ..RunPaths::default()
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
