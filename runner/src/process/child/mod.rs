//! A child process that speaks lines on its pipes.
//!
//! Every child is in a process group of its own, dies with the runner, has its
//! three pipes drained at all times, and is reaped. No buffer here grows
//! without a bound and no wait lacks a deadline.

mod stderr;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use drawbridge_io::lines::{Line, LineReader};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

use stderr::StderrTail;

use crate::process::die_with_parent::{self, DeathSignal};
use crate::self_command::SelfCommand;

/// Longest line read from a child; a tool result with images can be megabytes.
pub(crate) const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;
/// Lines that may wait for a child that does not read its input.
const MAX_QUEUED_LINES: usize = 1024;
/// Bytes that may wait for a child that does not read its input.
const MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// Longest time that an ended child's pipes are read: a grandchild may hold
/// them open.
const PIPE_GRACE: Duration = Duration::from_secs(2);

/// The program to start and its environment.
#[derive(Clone, Debug)]
pub(crate) struct ChildSpec {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) cwd: PathBuf,
    /// Variables on top of the runner's own.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Variables of the runner's own to leave out.
    pub(crate) removed_env: Vec<&'static str>,
}

/// A running child.
#[derive(Debug)]
pub(crate) struct LineChild {
    child: Child,
    group: Option<Pid>,
    stdin: Option<Input>,
    stdout: Option<LineReader<ChildStdout>>,
    stderr: StderrTail,
    /// Set once the child has been reaped, with the end of `PIPE_GRACE`.
    ended: Option<(ExitStatus, Instant)>,
    /// The time when the last line was handed to its reader.
    read_at: Option<Instant>,
}

/// An event of a child.
#[derive(Debug)]
pub(crate) enum ChildEvent {
    /// It wrote a line on standard output.
    Line(Line),
    /// It has ended and its output has been read. Nothing follows.
    Exited(ExitReport),
}

/// The end of a child.
#[derive(Clone, Debug)]
pub(crate) struct ExitReport {
    pub(crate) status: ExitStatus,
    /// The last lines of its standard error, bounded.
    pub(crate) stderr_tail: String,
}

impl ExitReport {
    /// Describes the end with the last lines: `PROGRAM ended with exit code 3:
    /// no such host`.
    pub(crate) fn describe(&self, program: &str) -> String {
        let how = describe(self.status);
        if self.stderr_tail.is_empty() {
            format!("{program} ended with {how}")
        } else {
            format!("{program} ended with {how}: {}", self.stderr_tail)
        }
    }
}

/// The child does not read its input, and too much waits for it.
#[derive(Debug, thiserror::Error)]
#[error("the agent does not read its input")]
pub(crate) struct InputStalled;

/// Longest time for the child to end after each step of the stop ladder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StopLadder {
    /// After the end of input.
    pub(crate) eof: Duration,
    /// After SIGTERM; then comes SIGKILL.
    pub(crate) term: Duration,
}

/// The remaining steps to a child's end: signals, and the times to send them.
#[derive(Debug)]
pub(crate) struct Stopping(VecDeque<(Instant, Signal)>);

/// The command that starts a program that dies with the runner. Pipes, folder
/// and environment are the caller's to set.
pub(crate) fn child_command(
    self_command: &SelfCommand,
    program: &OsString,
    args: &[OsString],
) -> Command {
    let mut command = Command::from(die_with_parent::command(
        self_command,
        DeathSignal::Kill,
        program,
    ));
    command.args(args).process_group(0).kill_on_drop(true);
    command
}

impl LineChild {
    /// Starts a child.
    pub(crate) fn spawn(self_command: &SelfCommand, spec: &ChildSpec) -> io::Result<Self> {
        let mut command = child_command(self_command, &spec.program, &spec.args);
        command
            .current_dir(&spec.cwd)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in &spec.removed_env {
            command.env_remove(name);
        }
        command.envs(spec.env.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            group: pid.and_then(Pid::from_raw),
            stdin: child.stdin.take().map(Input::new),
            stdout: child
                .stdout
                .take()
                .map(|out| LineReader::new(out, MAX_LINE_BYTES)),
            stderr: StderrTail::drain(child.stderr.take()),
            child,
            ended: None,
            read_at: None,
        })
    }

    /// Queues one line for standard input. After the end of input it is dropped.
    pub(crate) fn write_line(&self, mut line: Vec<u8>) -> Result<(), InputStalled> {
        line.push(b'\n');
        self.write(line)
    }

    /// Queues bytes for standard input. After the end of input they are dropped.
    pub(crate) fn write(&self, bytes: Vec<u8>) -> Result<(), InputStalled> {
        self.stdin
            .as_ref()
            .map_or(Ok(()), |input| input.push(bytes))
    }

    /// Ends standard input once the queued lines are written.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal to the child's process group, unless it has been reaped.
    pub(crate) fn signal(&self, signal: Signal) {
        let (Some(child), None) = (self.group, &self.ended) else {
            return;
        };
        let mut sent = kill_process_group(child, signal);
        // The child may have left its group; whom the group's signal has killed
        // is not hurt by a second one.
        if sent.is_err() || signal == Signal::KILL {
            sent = kill_process(child, signal);
        }
        if let Err(error) = sent {
            tracing::debug!("cannot signal the agent: {error}");
        }
    }

    /// Waits for what the child does next. Nothing is lost when the wait is
    /// given up in a `select!`.
    pub(crate) async fn next(&mut self) -> ChildEvent {
        // Lines that wait because nobody had time for them are not late.
        if let (Some(since), Some((_, deadline))) = (self.read_at.take(), &mut self.ended) {
            *deadline += since.elapsed();
        }
        loop {
            let deadline = self.ended.map(|(_, deadline)| deadline);
            // At random: what the child left behind may flood its output, and the
            // child's end must be seen all the same.
            tokio::select! {
                line = next_line(&mut self.stdout), if self.stdout.is_some() => match line {
                    Some(line) => {
                        self.read_at = Some(Instant::now());
                        return ChildEvent::Line(line);
                    }
                    None => self.stdout = None,
                },
                status = self.child.wait(), if self.ended.is_none() => {
                    self.stdin = None;
                    self.ended = Some((known(status), Instant::now() + PIPE_GRACE));
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    tracing::warn!("the agent has ended, but something holds its output open");
                    self.stdout = None;
                }
            }
            if let (Some((status, deadline)), None) = (self.ended, &self.stdout) {
                let stderr_tail = self.stderr.finish(deadline).await;
                return ChildEvent::Exited(ExitReport {
                    status,
                    stderr_tail,
                });
            }
        }
    }

    /// Whether the child has ended on its own so far; what it wrote may still
    /// have to be read.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.ended.is_some() || matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Begins to end the child: end of input now, SIGTERM and SIGKILL when their
    /// time has come in [`Self::next_while`].
    pub(crate) fn begin_stop(&mut self, ladder: StopLadder) -> Stopping {
        self.close_stdin();
        let term = Instant::now() + ladder.eof;
        let kill = term + ladder.term;
        Stopping(VecDeque::from([(term, Signal::TERM), (kill, Signal::KILL)]))
    }

    /// Waits for what the child does next on its way to its end.
    pub(crate) async fn next_while(&mut self, stopping: &mut Stopping) -> ChildEvent {
        loop {
            let Some((at, signal)) = stopping.0.front().copied() else {
                return self.next().await;
            };
            // A child that writes without a pause must not hold up its end.
            if Instant::now() < at
                && let Ok(event) = tokio::time::timeout_at(at, self.next()).await
            {
                return event;
            }
            stopping.0.pop_front();
            self.signal(signal);
        }
    }

    /// Ends the child: end of input, SIGTERM, SIGKILL, each with its deadline.
    /// Its output is ignored meanwhile.
    pub(crate) async fn stop(&mut self, ladder: StopLadder) -> ExitReport {
        let mut stopping = self.begin_stop(ladder);
        loop {
            if let ChildEvent::Exited(report) = self.next_while(&mut stopping).await {
                return report;
            }
        }
    }
}

/// The next line, or `None` at the end of output. A read error ends it too.
async fn next_line(stdout: &mut Option<LineReader<ChildStdout>>) -> Option<Line> {
    let reader = stdout.as_mut()?;
    reader.next().await.unwrap_or_else(|error| {
        tracing::warn!("cannot read the agent's output: {error}");
        None
    })
}

/// A child's status. It is reaped nowhere else, so asking for it cannot fail;
/// if it does, that is a failure of the child.
fn known(status: io::Result<ExitStatus>) -> ExitStatus {
    use std::os::unix::process::ExitStatusExt;
    status.unwrap_or_else(|error| {
        tracing::error!("cannot wait for the agent: {error}");
        ExitStatus::from_raw(0x100)
    })
}

/// A child's standard input: a bounded queue and the task that writes it.
#[derive(Debug)]
struct Input {
    lines: mpsc::Sender<Vec<u8>>,
    queued: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Input {
    fn new(mut stdin: ChildStdin) -> Self {
        use std::sync::atomic::Ordering::Relaxed;
        let (lines, mut receiver) = mpsc::channel::<Vec<u8>>(MAX_QUEUED_LINES);
        let queued = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let written = std::sync::Arc::clone(&queued);
        tokio::spawn(async move {
            while let Some(line) = receiver.recv().await {
                // A child that no longer reads is noticed by its exit.
                if stdin.write_all(&line).await.is_err() {
                    break;
                }
                written.fetch_sub(line.len(), Relaxed);
            }
        });
        Self { lines, queued }
    }

    fn push(&self, line: Vec<u8>) -> Result<(), InputStalled> {
        use std::sync::atomic::Ordering::Relaxed;
        let length = line.len();
        let queued = self.queued.fetch_add(length, Relaxed);
        // One line alone may be longer than the bound.
        if queued > 0 && queued + length > MAX_QUEUED_BYTES {
            return Err(InputStalled);
        }
        match self.lines.try_send(line) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(InputStalled),
            _ => Ok(()),
        }
    }
}

/// Describes how a child ended: `exit code 3` or `signal 15`.
pub(crate) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "signal 9, most often the memory limit's".to_owned(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// A program's name for messages.
pub(crate) fn program_name(program: &OsString) -> String {
    Path::new(program).display().to_string()
}

#[cfg(test)]
mod tests;
