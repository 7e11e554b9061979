//! A program that dies with its parent.

use std::os::unix::process::CommandExt;
use std::process::Command;

use drawbridge_shared::exit::Exit;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::cli::{DeathSignal, TiedArgs};

/// Exit code for "the program cannot be started", as shells have it.
const NOT_STARTED: u8 = 127;

pub(crate) fn main(args: &TiedArgs) -> Exit {
    let signal = match args.signal {
        DeathSignal::Term => Signal::TERM,
        DeathSignal::Kill => Signal::KILL,
    };
    if let Err(error) = set_parent_process_death_signal(Some(signal)) {
        tracing::error!("cannot tie the program to its parent: {error}");
        return Exit::Child(NOT_STARTED);
    }
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get());
    if args.parent.is_some() && parent != args.parent {
        return Exit::Child(NOT_STARTED);
    }
    let error = Command::new(&args.program[0])
        .args(&args.program[1..])
        .exec();
    tracing::error!("cannot start {:?}: {error}", args.program[0]);
    Exit::Child(NOT_STARTED)
}
