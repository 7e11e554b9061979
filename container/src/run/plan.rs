//! The plan of a run: its program, settled before anything is started.

use std::path::PathBuf;

use drawbridge_shared::ids::{GroupName, RunId};
use rustix::process::{Resource, getrlimit};
use tokio::process::Command;

use super::context::RunContext;
use super::endpoint::Endpoint;
use super::mounts::RunMounts;
use crate::config::{RunSettings, SandboxChoice};
use crate::engine::sandbox::Sandbox;
use crate::engine::{Engine, Isolation, Runtime, run_args};
use crate::error::{Context, Error, Result};
use crate::events::Event;
use crate::process::Argv;
use crate::spec::{
    Access, HOME, IPC, Limits, Mount, RunSpec, SOCKET_FOLDER, Scratch, TimeZone, WORKSPACE,
};
use crate::state::Group;

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
    /// The plan of a run whose folders are ready. Nothing on disk changes.
    ///
    /// `runner_args` are the subcommand of the runner and its arguments;
    /// without them, the runner leads a conversation.
    pub(super) fn new(
        context: &RunContext<'_>,
        group: &Group,
        mounts: &RunMounts,
        endpoint: &Endpoint,
        runner_args: &[String],
    ) -> Result<Self> {
        let (argv, isolation, kind) = match &context.runtime {
            Runtime::Container(engine, facts) => {
                let spec = spec(context, group, mounts, endpoint)?;
                let mut argv = Argv::new(engine.program(), run_args(*engine, facts, &spec));
                argv.args.extend(runner_args.iter().map(Into::into));
                let isolation = Isolation::of_container(&spec, facts);
                (argv, isolation, Kind::Container(*engine, spec.name))
            }
            Runtime::Host => {
                let argv = host_argv(context, group, mounts, endpoint, runner_args)?;
                let isolation = Isolation::of_host(context.settings.sandbox);
                let scratch = context.folder.scratch();
                (argv, isolation, Kind::Host { scratch })
            }
        };
        let masked = match context.settings.sandbox {
            SandboxChoice::Off if !isolation.isolated => 0,
            _ => mounts.masked(),
        };
        Ok(Self {
            run: context.run.clone(),
            group: group.name().clone(),
            isolation: Isolation {
                mounts: mounts.summaries(&context.runtime),
                masked,
                ..isolation
            },
            argv: argv.tied(),
            kind,
        })
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

/// The runner on this machine, in a sandbox unless that is turned off.
fn host_argv(
    context: &RunContext<'_>,
    group: &Group,
    mounts: &RunMounts,
    endpoint: &Endpoint,
    runner_args: &[String],
) -> Result<Argv> {
    let runner = match runner_args {
        [] => Argv::runner(["run"]),
        args => Argv::runner(args),
    };
    let (SandboxChoice::Landlock, Some(port)) = (context.settings.sandbox, endpoint.port()) else {
        return Ok(runner);
    };
    let own = [
        group.workspace(),
        group.home(),
        group.ipc(),
        context.folder.scratch(),
    ];
    let paths = mounts.host_paths()?;
    let sandbox = Sandbox::new(own.into(), context.state.root(), port);
    Ok(sandbox.with(paths.write, paths.hide).around(runner))
}

/// The container of a run.
fn spec(
    context: &RunContext<'_>,
    group: &Group,
    mounts: &RunMounts,
    endpoint: &Endpoint,
) -> Result<RunSpec> {
    let settings = &context.settings;
    Ok(RunSpec {
        run: context.run.clone(),
        install: context.state.install().clone(),
        name: format!("drawbridge-{}-{}", group.name(), context.run),
        image: settings.image.clone(),
        user: context.user,
        network: endpoint.network(),
        mounts: all_mounts(context, group, mounts, endpoint)?,
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

/// The group's own folders, the proxy's socket, and what else was asked for.
fn all_mounts(
    context: &RunContext<'_>,
    group: &Group,
    mounts: &RunMounts,
    endpoint: &Endpoint,
) -> Result<Vec<Mount>> {
    let mut own = vec![
        (group.workspace(), WORKSPACE, Access::Write),
        (group.ipc(), IPC, Access::Write),
        (group.home(), HOME, Access::Write),
    ];
    if endpoint.is_socket() {
        let socket_folder = context.folder.socket_folder().to_owned();
        own.push((socket_folder, SOCKET_FOLDER, Access::Read));
    }
    let own = own
        .into_iter()
        .map(|(source, target, access)| Mount::new(source, target, access))
        .collect::<Result<Vec<_>, _>>()
        .context(|| Error::not_started("the state folder cannot be mounted"))?;
    Ok([own, mounts.mounts()?].concat())
}
