//! The init process, `agent-runner run`: PID 1 of a container, or the child
//! subreaper of a local run.
//!
//! It starts `supervise` with its own standard input, output and error, lets go
//! of the first two, and from then on only reaps orphans, forwards signals, and
//! at the end clears away every process that is left, also those that moved to
//! a session of their own. It holds nothing that an agent could want.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::time::Duration;

use drawbridge_shared::chain::chain;
use drawbridge_shared::exit::Exit;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process};
use tokio::runtime;
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::process::die_with_parent::{self, DeathSignal, ParentArgs, ParentError};
use crate::self_command::SelfCommand;

/// Time for `supervise`, after the first signal to stop, to end its agent and
/// write its last record. `docker stop` gives ten seconds in all.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(8);
/// Longest time for `supervise` to begin to listen for signals. Until then a
/// signal would end it before it could write a record.
const LISTEN_GRACE: Duration = Duration::from_secs(2);
/// Interval of the checks whether it listens.
const LISTEN_INTERVAL: Duration = Duration::from_millis(2);
/// Longest time for killed processes to disappear before they are given up.
const KILL_BOUND: Duration = Duration::from_secs(1);
/// Interval at which the list of remaining processes is read again while they
/// are being removed; the end of a process wakes the reader sooner.
const CLEAR_INTERVAL: Duration = Duration::from_millis(20);

/// A shell's exit code for a process that was killed.
const KILLED: Exit = Exit::Child(128 + 9);

/// The failure to start a run.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Runtime(io::Error),
    #[error(transparent)]
    Guard(#[from] ParentError),
    #[error("cannot handle signals")]
    Signals(#[source] io::Error),
    #[error("cannot become the reaper of orphans")]
    Subreaper(#[source] io::Error),
    #[error("cannot start the supervising process")]
    Supervise(#[source] io::Error),
    #[error("cannot let go of standard input and output")]
    Stdio(#[source] io::Error),
}

/// `agent-runner run`: starts `supervise`, waits for its end, clears away all it
/// left, and ends with its exit code.
///
/// With a parent to stop with, the parent's end is the same as `SIGTERM`.
pub(crate) fn main(self_command: &SelfCommand, args: &ParentArgs) -> Exit {
    match prepare_and_run(self_command, args) {
        Ok(exit) => exit,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            Exit::NotStarted
        }
    }
}

fn prepare_and_run(self_command: &SelfCommand, args: &ParentArgs) -> Result<Exit, StartError> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    runtime.block_on(async {
        // Handlers first: the parent's end may send SIGTERM at any time.
        let signals = Signals::listen().map_err(StartError::Signals)?;
        die_with_parent::guard(args, DeathSignal::Term)?;
        become_subreaper().map_err(StartError::Subreaper)?;
        run(self_command, signals).await
    })
}

async fn run(self_command: &SelfCommand, mut signals: Signals) -> Result<Exit, StartError> {
    let mut command = self_command.command("supervise");
    command.args(["--parent", &std::process::id().to_string()]);
    let child = command.spawn().map_err(StartError::Supervise)?;
    // Nobody else waits for this child: see `reap`.
    let supervise = Pid::from_child(&child);
    release_stdio().map_err(StartError::Stdio)?;
    let ended = watch(supervise, &mut signals).await;
    clear_descendants(&mut signals).await;
    Ok(ended.unwrap_or(KILLED))
}

/// Waits for the end of `supervise`, and makes it come when a signal asks.
/// `None` when it could not even be killed.
async fn watch(supervise: Pid, signals: &mut Signals) -> Option<Exit> {
    let mut deadline: Option<(Instant, Escalation)> = None;
    let mut held = None;
    let mut last_sent = None;
    loop {
        if let Some(status) = reap().remove(&supervise) {
            return Some(end_of(status, last_sent));
        }
        tokio::select! {
            wake = signals.next() => if let Wake::Stop(signal) = wake {
                held = Some((signal, Instant::now() + LISTEN_GRACE));
                deadline.get_or_insert_with(|| (Instant::now() + STOP_GRACE, Escalation::Kill));
            },
            signal = until_listening(supervise, held) => {
                send(supervise, signal);
                held = None;
                last_sent = Some(signal);
            }
            escalation = passed(deadline) => match escalation {
                Escalation::Kill => {
                    tracing::warn!(grace = ?STOP_GRACE, "the run did not stop in time and is killed");
                    send(supervise, Signal::KILL);
                    deadline = Some((Instant::now() + KILL_BOUND, Escalation::GiveUp));
                }
                Escalation::GiveUp => return None,
            },
        }
    }
}

/// Waits until `supervise` listens for the signal that is held for it, for a
/// bounded time. Without one it waits indefinitely.
async fn until_listening(supervise: Pid, held: Option<(Signal, Instant)>) -> Signal {
    let Some((signal, latest)) = held else {
        return std::future::pending().await;
    };
    while !listens(supervise, signal) && Instant::now() < latest {
        sleep(LISTEN_INTERVAL).await;
    }
    signal
}

/// Whether a process catches or ignores a signal. Where that cannot be seen, it
/// is taken to.
fn listens(pid: Pid, signal: Signal) -> bool {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let Ok(status) = fs::read_to_string(path) else {
        return true;
    };
    let has_it = |line: &str| {
        let set = line
            .strip_prefix("SigCgt:")
            .or_else(|| line.strip_prefix("SigIgn:"));
        let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        set.is_some_and(|set| set >> (signal.as_raw() - 1) & 1 == 1)
    };
    status.lines().any(has_it)
}

/// The step that a passed deadline leads to.
#[derive(Clone, Copy)]
enum Escalation {
    Kill,
    GiveUp,
}

async fn passed(deadline: Option<(Instant, Escalation)>) -> Escalation {
    match deadline {
        Some((at, escalation)) => {
            sleep_until(at).await;
            escalation
        }
        None => std::future::pending().await,
    }
}

/// Kills and reaps until no child is left.
///
/// Only direct children are killed: a process that was not reaped keeps its id,
/// so no stranger can be hit, and the children of a killed process become ours
/// in the same moment.
async fn clear_descendants(signals: &mut Signals) {
    let deadline = Instant::now() + KILL_BOUND;
    loop {
        for child in children() {
            send(child, Signal::KILL);
        }
        reap();
        if !has_children() {
            return;
        }
        if Instant::now() >= deadline {
            tracing::warn!("some processes of the run could not be killed");
            return;
        }
        // The elapsed interval is no failure: the list is read again then.
        let _ = timeout(CLEAR_INTERVAL, signals.next()).await;
    }
}

/// Collects every child that has ended.
fn reap() -> HashMap<Pid, WaitStatus> {
    let mut ended = HashMap::new();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => ended.insert(pid, status),
            Err(Errno::INTR) => continue,
            Ok(None) | Err(_) => return ended,
        };
    }
}

fn has_children() -> bool {
    use rustix::process::{WaitId, WaitIdOptions};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(
        rustix::process::waitid(WaitId::All, options),
        Err(Errno::CHILD)
    )
}

/// Processes whose parent is this one, from `/proc`; none where there is no
/// `/proc`.
fn children() -> Vec<Pid> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(own))
        .filter_map(Pid::from_raw)
        .collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in parentheses and may hold any byte, also
    // spaces and parentheses.
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = String::from_utf8_lossy(&stat[after_name..]).into_owned();
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn send(pid: Pid, signal: Signal) {
    // The process may have ended in this moment; its end is seen by `reap`.
    if let Err(error) = kill_process(pid, signal) {
        tracing::debug!(?pid, ?signal, %error, "signal not sent");
    }
}

/// The exit code for the end of `supervise`, given the last signal it was sent.
fn end_of(status: WaitStatus, sent: Option<Signal>) -> Exit {
    let signal = status.terminating_signal();
    // It handles the signals that it is sent, unless it took too long to begin.
    if signal.is_some() && signal == sent.map(Signal::as_raw) {
        return Exit::Interrupted;
    }
    let code = status
        .exit_status()
        .unwrap_or_else(|| 128 + signal.unwrap_or_default());
    Exit::Child(u8::try_from(code).unwrap_or(u8::MAX))
}

#[cfg(all(target_os = "linux", not(drawbridge_portable)))]
fn become_subreaper() -> io::Result<()> {
    let own = rustix::process::getpid();
    if own != Pid::INIT {
        rustix::process::set_child_subreaper(Some(own))?;
    }
    Ok(())
}

#[cfg(any(not(target_os = "linux"), drawbridge_portable))]
fn become_subreaper() -> io::Result<()> {
    Ok(())
}

/// Lets go of standard input and output, so that their other ends see when
/// `supervise` closes them.
fn release_stdio() -> io::Result<()> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// The meaning of a signal to the init process.
enum Wake {
    /// A child ended, this process's own or an orphan.
    ChildEnded,
    /// The run is to stop.
    Stop(Signal),
}

/// The signals that the init process acts on.
struct Signals {
    child: unix::Signal,
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
    quit: unix::Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            child: unix::signal(SignalKind::child())?,
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            hangup: unix::signal(SignalKind::hangup())?,
            quit: unix::signal(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> Wake {
        tokio::select! {
            _ = self.child.recv() => Wake::ChildEnded,
            _ = self.terminate.recv() => Wake::Stop(Signal::TERM),
            _ = self.interrupt.recv() => Wake::Stop(Signal::INT),
            _ = self.hangup.recv() => Wake::Stop(Signal::HUP),
            _ = self.quit.recv() => Wake::Stop(Signal::QUIT),
        }
    }
}
