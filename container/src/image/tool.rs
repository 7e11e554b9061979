//! Running the programs that make an image: the engine, npm, cargo.

use std::time::Duration;

use drawbridge_io::lines::{Line, LineReader};
use drawbridge_io::tail::LineTail;
use tokio::io::AsyncRead;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::error::{Context, Error, Result};
use crate::terminal::progress::Progress;

const MAX_LINE_BYTES: usize = 400;
const MAX_LINES: usize = 30;

/// Runs a program to its end and shows its lines as they come. When it fails,
/// its last lines are shown and the error names it.
pub(super) async fn run(
    name: &str,
    mut command: Command,
    deadline: Duration,
    progress: &Progress,
) -> Result<()> {
    let failed = || Error::not_started(format!("cannot run {name}"));
    let mut child = command.spawn().context(failed)?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed());
    };
    let (sender, mut lines) = mpsc::channel::<String>(64);
    let mut tail = LineTail::new(MAX_LINES, MAX_LINE_BYTES);
    let show = async {
        while let Some(line) = lines.recv().await {
            progress.detail(&line);
            tail.push(&line);
        }
    };
    let read = async {
        tokio::join!(send_lines(out, sender.clone()), send_lines(err, sender));
    };
    let work = async { tokio::join!(read, show, child.wait()).2 };
    let ended = timeout(deadline, work).await;
    if matches!(&ended, Ok(Ok(status)) if status.success()) {
        return Ok(());
    }
    for line in tail.lines() {
        progress.print_line(&format!("  | {line}"));
    }
    let hint = format!("make sure that {name} is installed and works, and try again");
    Err(match ended {
        Ok(Ok(status)) => Error::not_started(format!("{name} failed: {status}")),
        Ok(Err(error)) => failed().caused_by(error),
        Err(_) => {
            let seconds = deadline.as_secs();
            Error::infrastructure(format!("{name} did not end within {seconds} s"))
        }
    }
    .hint(hint))
}

/// Sends each line, cut to a bound. A carriage return ends a line as well, as
/// progress displays use it.
async fn send_lines(pipe: impl AsyncRead + Unpin, sender: mpsc::Sender<String>) {
    let mut lines = LineReader::new(pipe, MAX_LINE_BYTES).split_at_carriage_return();
    while let Ok(Some(line)) = lines.next().await {
        let (Line::Whole(line) | Line::TooLong { start: line, .. }) = line;
        let text = printable(&line);
        if !text.is_empty() && sender.send(text).await.is_err() {
            return;
        }
    }
}

/// Without control characters: the lines end up on a terminal.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Argv;

    async fn shell(script: &str, deadline: Duration) -> Result<()> {
        let command = Argv::new("sh", ["-c", script]).tool_command();
        run("the shell", command, deadline, &Progress::plain()).await
    }

    #[tokio::test]
    async fn success_failure_and_silence_are_told_apart() {
        let long = Duration::from_secs(10);
        shell("seq 100; printf 'a\\rb'; echo err >&2", long)
            .await
            .unwrap();
        let error = shell("echo broken >&2; exit 3", long).await.unwrap_err();
        assert_eq!(error.one_line(), "the shell failed: exit status: 3");
        let error = shell("exec sleep 60", Duration::from_millis(50))
            .await
            .unwrap_err();
        assert_eq!(error.one_line(), "the shell did not end within 0 s");
    }

    #[tokio::test]
    async fn lines_are_bounded_and_printable() {
        let long = "x".repeat(1000);
        let text = format!("one\r\ntwo \x1b[1m\n\n{long}");
        let (sender, mut lines) = mpsc::channel(64);
        send_lines(text.as_bytes(), sender).await;
        let mut all = Vec::new();
        while let Some(line) = lines.recv().await {
            all.push(line);
        }
        assert_eq!(all[..2], ["one", "two [1m"]);
        assert_eq!(all[2].len(), MAX_LINE_BYTES);
    }
}
