//! Processes that die with their parent, so that `kill -9` of a parent leaves
//! nothing behind.
//!
//! Linux sends the signal when the *thread* that started the process ends, so a
//! parent has to start such processes from its main thread or from one that
//! lives as long as it does. Other systems have no such signal; there the check
//! is left out and the launcher's clean-up finds what remains.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;
use drawbridge_shared::exit::Exit;
use drawbridge_shared::privacy::not_dumpable;
use rustix::process::Pid;

use crate::self_command::SelfCommand;

/// The signal a process gets when its parent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DeathSignal {
    /// `SIGTERM`: for a program that has something to tidy up.
    Term,
    /// `SIGKILL`: for a program that is not trusted to stop.
    Kill,
}

impl DeathSignal {
    /// The name used on the command line.
    const fn name(self) -> &'static str {
        match self {
            Self::Term => "term",
            Self::Kill => "kill",
        }
    }
}

/// Arguments of a process that stops with its parent.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ParentArgs {
    /// Process id of the parent to stop with; without it the process stops on
    /// signals only.
    #[arg(long, hide = true, value_parser = parse_process_id)]
    pub(crate) parent: Option<Pid>,
}

/// Arguments of `tied`.
#[derive(Debug, Args)]
pub(crate) struct DieWithParentArgs {
    /// Signal that the program gets when its parent dies.
    #[arg(long, value_enum, default_value_t = DeathSignal::Kill)]
    pub(crate) signal: DeathSignal,
    /// Process id the parent must have; another one means it has died already.
    #[arg(long, value_parser = parse_process_id)]
    pub(crate) parent: Pid,
    /// Keep the program and its children from gaining privileges from files.
    #[arg(long)]
    pub(crate) no_new_privileges: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<OsString>,
}

/// The failure to bind a process to its parent, or to start it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParentError {
    /// The parent ended first; there is nobody left to work for.
    #[error("process {} that started this one is gone", .0.as_raw_nonzero())]
    Orphaned(Pid),
    /// The system refused.
    #[error("cannot tie this process to its parent")]
    Refused(#[source] io::Error),
    /// The program cannot be executed.
    #[error("cannot start {program:?}")]
    Exec {
        /// The program.
        program: OsString,
        /// The system's error.
        source: io::Error,
    },
}

impl ParentError {
    /// The exit code a shell would give: 127 when the program does not exist,
    /// 126 when it cannot be executed.
    fn exit(&self) -> Exit {
        match self {
            Self::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Exit::Child(127)
            }
            _ => Exit::Child(126),
        }
    }
}

fn parse_process_id(text: &str) -> Result<Pid, &'static str> {
    let positive = text.parse().ok().filter(|id: &i32| *id > 0);
    positive.and_then(Pid::from_raw).ok_or("not a process id")
}

/// The command that starts `program` so that it dies with the calling process;
/// arguments of the program are added by the caller.
pub(crate) fn command(self_command: &SelfCommand, signal: DeathSignal, program: &OsStr) -> Command {
    let mut command = self_command.command("tied");
    command.args(["--signal", signal.name(), "--parent"]);
    command.arg(std::process::id().to_string());
    if signal == DeathSignal::Kill {
        // A set-user-ID program would lose the death signal, and an agent has
        // no business in gaining privileges. An engine's command line may need
        // them: rootless Podman starts newuidmap.
        command.arg("--no-new-privileges");
    }
    command.arg("--").arg(program);
    command
}

/// Makes this process die by `signal` when `parent` ends.
///
/// # Errors
/// The parent is already gone, or the system refused.
fn stop_with_parent(parent: Pid, signal: DeathSignal) -> Result<(), ParentError> {
    set_death_signal(signal).map_err(|errno| ParentError::Refused(errno.into()))?;
    // Between the fork and the line above the parent may have ended unseen.
    match rustix::process::getppid() {
        Some(actual) if actual == parent => Ok(()),
        _ => Err(ParentError::Orphaned(parent)),
    }
}

/// `agent-runner tied`: becomes the program, and returns only when that failed.
pub(crate) fn main(args: &DieWithParentArgs) -> Exit {
    let error = exec(args);
    let cause = error
        .source()
        .map_or_else(String::new, |cause| format!(": {cause}"));
    tracing::error!("{error}{cause}");
    error.exit()
}

fn exec(args: &DieWithParentArgs) -> ParentError {
    if let Err(error) = prepare(args) {
        return error;
    }
    // The command line's parser demands one word at least.
    let (program, rest) = args.program.split_first().unzip();
    let program = program.cloned().unwrap_or_default();
    let source = Command::new(&program).args(rest.unwrap_or_default()).exec();
    ParentError::Exec { program, source }
}

fn prepare(args: &DieWithParentArgs) -> Result<(), ParentError> {
    stop_with_parent(args.parent, args.signal)?;
    if args.no_new_privileges {
        forbid_new_privileges().map_err(|errno| ParentError::Refused(errno.into()))?;
    }
    Ok(())
}

/// Protects a process of the runner: closes it to inspection and, when asked
/// to, makes it die with its parent. `run` and `supervise` do this before
/// anything else.
///
/// # Errors
/// The parent is already gone, or the system refused.
pub(crate) fn guard(args: &ParentArgs, signal: DeathSignal) -> Result<(), ParentError> {
    not_dumpable().map_err(ParentError::Refused)?;
    args.parent
        .map_or(Ok(()), |parent| stop_with_parent(parent, signal))
}

#[cfg(all(target_os = "linux", not(drawbridge_portable)))]
fn set_death_signal(signal: DeathSignal) -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(match signal {
        DeathSignal::Term => rustix::process::Signal::TERM,
        DeathSignal::Kill => rustix::process::Signal::KILL,
    }))
}

#[cfg(all(target_os = "linux", not(drawbridge_portable)))]
fn forbid_new_privileges() -> rustix::io::Result<()> {
    rustix::thread::set_no_new_privs(true)
}

#[cfg(any(not(target_os = "linux"), drawbridge_portable))]
fn set_death_signal(_: DeathSignal) -> rustix::io::Result<()> {
    Ok(())
}

#[cfg(any(not(target_os = "linux"), drawbridge_portable))]
fn forbid_new_privileges() -> rustix::io::Result<()> {
    Ok(())
}
