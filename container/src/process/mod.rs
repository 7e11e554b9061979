//! The only place that starts programs.
//!
//! Every program gets an environment that names what it may see; the
//! launcher's own holds the real key. Output is read with a bound and every
//! wait has a deadline.

mod argv;
mod event_loop;
pub(crate) mod interrupt;
pub(crate) mod lines;
mod privacy;

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use drawbridge_io::lines::{Line, LineReader};
use drawbridge_io::tail::LineTail;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

pub(crate) use argv::Argv;
pub(crate) use event_loop::block_on;
pub(crate) use privacy::hide_memory;

/// The hidden subcommand behind which the runner's command line is.
pub(crate) const AGENT_RUNNER: &str = "agent-runner";

/// Most output that is kept of a helper program, in bytes.
const MAX_CAPTURED: u64 = 1024 * 1024;
/// Longest wait for the end of a log after its program has ended.
const LAST_LOG: Duration = Duration::from_secs(2);

/// The exit status and the output of a helper program.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Captured {
    /// The last line it wrote to standard error, or how it ended.
    pub(crate) fn stderr_summary(&self) -> String {
        let line = self.stderr.lines().rfind(|line| !line.trim().is_empty());
        line.map_or_else(|| self.status.to_string(), |line| line.trim().to_owned())
    }
}

/// Runs a helper program to its end.
///
/// # Errors
/// It cannot be started, or it takes longer than the deadline and is killed.
pub(crate) async fn capture(command: Command, deadline: Duration) -> io::Result<Captured> {
    capture_with_input(command, Vec::new(), deadline).await
}

/// Runs a helper program with something on its standard input.
///
/// # Errors
/// The same.
pub(crate) async fn capture_with_input(
    mut command: Command,
    input: Vec<u8>,
    deadline: Duration,
) -> io::Result<Captured> {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let work = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input tells why itself.
                let _ = stdin.write_all(&input).await;
            }
        };
        let (stdout, stderr, status, ()) = tokio::join!(
            read_bounded(stdout),
            read_bounded(stderr),
            child.wait(),
            write
        );
        Ok(Captured {
            status: status?,
            stdout: stdout?,
            stderr: stderr?,
        })
    };
    match tokio::time::timeout(deadline, work).await {
        Ok(captured) => captured,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no end after {} s", deadline.as_secs()),
        )),
    }
}

/// Keeps the first part and reads the rest away, so that the writer can go on.
async fn read_bounded(source: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(mut source) = source else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    (&mut source)
        .take(MAX_CAPTURED)
        .read_to_end(&mut bytes)
        .await?;
    tokio::io::copy(&mut source, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A runner, or the engine program in front of it, with its pipes.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) stdout: ChildStdout,
    log: JoinHandle<LogTail>,
}

impl Program {
    /// Starts it, writes its input and closes that, and keeps the end of its
    /// log. `secret` is taken out of the log.
    pub(crate) fn start(mut command: Command, input: Vec<u8>, secret: String) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("a pipe is missing"));
        };
        tokio::spawn(async move {
            // A program that ends without reading its input tells why itself.
            let _ = stdin.write_all(&input).await;
        });
        let log = tokio::spawn(LogTail::read(stderr, secret));
        Ok(Self { child, stdout, log })
    }

    /// Process id, which is also the id of its group.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.child.id().and_then(|pid| pid.try_into().ok())
    }

    /// Asks the whole group to end, then kills it.
    pub(crate) async fn stop(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.child.wait())
            .await
            .is_err()
        {
            self.signal(Signal::KILL);
            let _ = self.child.wait().await;
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// The end of its log, once it has ended.
    pub(crate) async fn into_log(self) -> LogTail {
        match tokio::time::timeout(LAST_LOG, self.log).await {
            Ok(Ok(log)) => log,
            _ => LogTail::default(),
        }
    }
}

/// Most lines of a log that are kept, most bytes of each, and of a line that is read.
const LOG_LINES: usize = 20;
const LOG_LINE_BYTES: usize = 1000;
const MAX_LOG_LINE: usize = 64 * 1024;

/// The last lines of a program's log.
#[derive(Clone, Debug)]
pub(crate) struct LogTail(LineTail);

impl Default for LogTail {
    fn default() -> Self {
        Self(LineTail::new(LOG_LINES, LOG_LINE_BYTES))
    }
}

impl LogTail {
    async fn read(source: impl AsyncRead + Unpin, secret: String) -> Self {
        let mut tail = Self::default();
        let mut lines = LineReader::new(source, MAX_LOG_LINE);
        // A pipe that breaks is at its end.
        while let Ok(Some(line)) = lines.next().await {
            let line = match line {
                Line::Whole(line) => line,
                Line::TooLong { mut start, .. } => {
                    // Its end may be the first part of the secret.
                    start.truncate(MAX_LOG_LINE - secret.len().min(MAX_LOG_LINE));
                    start
                }
            };
            let line = String::from_utf8_lossy(&line).replace(&secret, "[session token]");
            tracing::debug!(target: "agent", "{}", line.trim_end());
            tail.0.push(&line);
        }
        tail
    }

    /// The last lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lines().map(str::to_owned).collect()
    }

    /// The last lines as one text.
    pub(crate) fn text(&self) -> String {
        self.lines().join(" | ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_of_output_is_bounded() {
        let flood = || tokio::io::repeat(b'x').take(3 * MAX_CAPTURED);
        let captured = read_bounded(Some(flood())).await.unwrap();
        assert_eq!(captured.len() as u64, MAX_CAPTURED);
        let tail = LogTail::read(flood(), "secret".to_owned()).await;
        assert_eq!(tail.lines(), ["x".repeat(LOG_LINE_BYTES)]);
        let lines = "line\n".repeat(10_000);
        let tail = LogTail::read(lines.as_bytes(), "secret".to_owned()).await;
        assert_eq!(tail.lines(), vec!["line"; LOG_LINES]);
    }

    /// Wherever a long line is cut, no part of the secret is in what is kept.
    #[tokio::test]
    async fn a_secret_across_a_cut_is_taken_out() {
        for before in MAX_LOG_LINE - 8..=MAX_LOG_LINE {
            let line = format!(
                "{}secret{}\nlast secret\n",
                " ".repeat(before),
                "y".repeat(10)
            );
            let tail = LogTail::read(line.as_bytes(), "secret".to_owned()).await;
            assert_eq!(tail.lines().last().unwrap(), "last [session token]");
            let shown = tail.text().replace("last [session token]", "");
            assert!(
                !shown.contains("cret") && !shown.contains("secr"),
                "{before}: {shown}"
            );
        }
    }
}
