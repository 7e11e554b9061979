//! The commands that are only a few lines long.

use std::path::Path;

use drawbridge_proxy::config::{ConfigFile, Environment, ProxyConfig};
use drawbridge_shared::exit::Exit;
use drawbridge_shared::ids::GroupName;
use drawbridge_shared::protocol::AgentKind;

#[cfg(target_os = "linux")]
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::cli::RunArgs;
use crate::config::{Layers, RunSettings, ServeSettings, Shown, Source, TypedSettings};
use crate::error::{Context, Error, Result};
use crate::events::{Event, Reporter};
use crate::follow_ups;
use crate::ipc::{self, Handler, Responder};
use crate::launch::{Request, launch, require_mountable};
use crate::mounts::MountRequest;
use crate::state::State;
use crate::submission::{Overlay, Submission};
use crate::{block_on, credentials, orphans, output};

/// `drawbridge run`.
pub(crate) fn run(args: &RunArgs) -> Result<Exit> {
    let printer = output::Printer::start();
    let reporter = if args.json {
        Reporter::Json(printer)
    } else {
        Reporter::Person(printer)
    };
    hide_memory();
    block_on(async {
        let done = run_to_the_end(args, reporter.clone()).await;
        reporter.report(&Event::exit(&done));
        reporter.flush().await;
        done
    })
}

async fn run_to_the_end(args: &RunArgs, reporter: Reporter) -> Result<Exit> {
    let state = State::open()?;
    orphans::sweep(&state).await?;
    launch(request(args)?, &state, reporter).await
}

/// Keeps other processes of this user from reading the key out of this one,
/// its environment included.
pub(crate) fn hide_memory() {
    #[cfg(target_os = "linux")]
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("other processes of yours can read this one's memory: {error}");
    }
}

/// Settings and credentials, as every run resolves them.
pub(crate) fn settle(flags: &dyn TypedSettings) -> Result<(RunSettings, Result<ProxyConfig>)> {
    let environment = observe()?;
    let file = find_file(&environment)?;
    let (settings, _) = resolve(flags, &environment, file.as_ref())?;
    let proxy = credentials::resolve(&settings, &environment, file.as_ref());
    Ok((settings, proxy))
}

pub(crate) fn observe() -> Result<Environment> {
    let environment = Environment::observe()
        .context(|| Error::not_started("the working directory cannot be read"))?;
    // An agent would tell us what to do.
    if State::holds(environment.directory())? {
        let directory = environment.directory().display();
        return Err(Error::usage(format!(
            "{directory} is in the state folder, and agents may have written to it"
        ))
        .hint("start drawbridge in a folder of your own"));
    }
    Ok(environment)
}

/// `drawbridge.toml`. One that cannot be read stops the command: what it would
/// have restricted is not known.
pub(crate) fn find_file(environment: &Environment) -> Result<Option<ConfigFile>> {
    ConfigFile::find(environment).context(|| {
        Error::usage("the configuration is not valid").hint(
            "correct it in an editor: it is TOML, with the tables [run], [agent.NAME], [serve], \
             [[mounts]], [proxy] and [[route]]",
        )
    })
}

fn request(args: &RunArgs) -> Result<Request> {
    let (settings, proxy) = settle(args)?;
    let group: Option<GroupName> = args
        .group
        .as_deref()
        .map(str::parse)
        .transpose()
        .context(|| Error::usage("--group"))?;
    require_program(settings.agent, &args.program)?;
    let snapshot = args.snapshot.as_deref().map(|path| {
        ipc::read_snapshot(path).context(|| {
            let path = path.display();
            Error::usage(format!(
                "--snapshot: {path} is no snapshot of groups and tasks"
            ))
        })
    });
    Ok(Request {
        responder: responder(settings.on_request.as_deref(), args.json)?,
        snapshot: snapshot.transpose()?.unwrap_or_default(),
        prompt: follow_ups::read_prompt(&args.prompt)?,
        group,
        program: args.program.clone(),
        follow_ups: follow_ups::Source::of(&args.prompt, args.json),
        ..Request::new(settings, proxy?)
    })
}

/// Who answers the agent's requests.
fn responder(on_request: Option<&Path>, has_program: bool) -> Result<Responder> {
    let Some(program) = on_request else {
        return Ok(if has_program {
            Responder::Program
        } else {
            Responder::Person
        });
    };
    // A name without a folder is looked for in PATH when it is started.
    if program.components().count() > 1 && !program.is_file() {
        let program = program.display();
        return Err(
            Error::usage(format!("on-request: there is no program {program}"))
                .hint("`drawbridge config show` tells where the name comes from"),
        );
    }
    Ok(Responder::Handler(Handler::new(program.to_owned())))
}

/// Refuses an agent without the program it needs, and a program for an agent that
/// has no use for it.
fn require_program(agent: AgentKind, program: &[String]) -> Result<()> {
    if agent == AgentKind::Builtin && !program.is_empty() {
        let error = Error::usage("--agent builtin has no program that another could replace");
        return Err(error
            .hint("leave out what is behind the two dashes, or choose --agent command to run it"));
    }
    let needs_program = matches!(agent, AgentKind::Command | AgentKind::Acp);
    if !needs_program || !program.is_empty() {
        return Ok(());
    }
    let name = agent.name();
    Err(
        Error::usage(format!("--agent {name} needs a program")).hint(format!(
            "give it behind two dashes: --agent {name} -- PROGRAM ARGUMENTS"
        )),
    )
}

/// The run of a submission, with the configuration as it is at this moment.
pub(crate) fn request_of(submission: &Submission, serve: &dyn TypedSettings) -> Result<Request> {
    let (settings, proxy) = settle(&Overlay { submission, serve })?;
    require_program(settings.agent, &submission.program)?;
    Ok(Request {
        responder: responder(settings.on_request.as_deref(), true)?,
        prompt: submission.prompt.clone(),
        group: submission.group.clone(),
        program: submission.program.clone(),
        ..Request::new(settings, proxy?)
    })
}

/// Refuses what no run could be started with, before there is one.
pub(crate) fn require_startable(serve: &dyn TypedSettings) -> Result<()> {
    let (settings, credentials) = settle(serve)?;
    responder(settings.on_request.as_deref(), true)?;
    credentials.map(drop)
}

/// Refuses what could never start, whatever the engine and the network do.
pub(crate) fn require_runnable(
    submission: &Submission,
    serve: &dyn TypedSettings,
    state: &State,
) -> Result<()> {
    let (settings, _) = settle(&Overlay { submission, serve })?;
    require_program(settings.agent, &submission.program)?;
    // `serve` knows of no main group.
    require_mountable(&settings.mounts, state, false)
}

/// `drawbridge clean`.
pub(crate) fn clean() -> Result<Exit> {
    block_on(async {
        let state = State::open()?;
        let dead = orphans::sweep(&state).await?;
        let unknown = orphans::remove_unknown(&state).await;
        output::note(&format!(
            "removed {dead} dead runs and {unknown} other containers"
        ));
        Ok(Exit::Success)
    })
}

pub(crate) fn resolve(
    flags: &dyn TypedSettings,
    environment: &Environment,
    file: Option<&ConfigFile>,
) -> Result<(RunSettings, Vec<Shown>)> {
    let (mut settings, mut shown) = RunSettings::resolve(&Layers {
        flags,
        environment: &|name| environment.variable(name).map(str::to_owned),
        file,
    })?;
    let mut add = |mount: MountRequest, source: Source| {
        let key = "mount".to_owned();
        let value = mount.to_string();
        shown.push(Shown { key, value, source });
        settings.mounts.push(mount);
    };
    // Flags add to what the file has.
    if let Some(file) = file {
        for mount in MountRequest::from_tables(&file.path, &file.mounts)? {
            add(mount, Source::File(file.path.clone(), None));
        }
    }
    for text in flags.mounts() {
        let source = Source::Flag("--mount".to_owned());
        add(MountRequest::from_flag(text)?, source);
    }
    let (_, of_serve) = ServeSettings::of_file(file)?;
    shown.extend(of_serve);
    Ok((settings, shown))
}
