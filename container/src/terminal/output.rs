//! The only place that writes to the terminal.
//!
//! Answers and data go to standard output, everything else to standard error.
//! A reader that has gone away is not an error of ours: what it does not want
//! to read is dropped.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::error::Error;
use crate::process::interrupt::Interrupts;
use crate::terminal::backpressure::ByteGate;

/// Longest wait for a reader that has stopped, at the last lines.
const LAST_LINES: Duration = Duration::from_secs(600);

/// Writes one line of an answer or of data.
#[expect(clippy::disallowed_methods, reason = "this is the output module")]
pub(crate) fn data_line(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// The lines of a run, written by a thread of their own: a reader that stops reading
/// holds up neither the run's clocks nor a signal.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    queue: mpsc::UnboundedSender<String>,
    waiting: ByteGate,
}

impl Printer {
    pub(crate) fn start() -> Self {
        let (queue, mut lines) = mpsc::unbounded_channel::<String>();
        let waiting = ByteGate::new();
        let written = waiting.clone();
        thread::spawn(move || {
            while let Some(line) = lines.blocking_recv() {
                data_line(&line);
                written.release(line.len() + 1);
            }
        });
        Self { queue, waiting }
    }

    /// Puts a line at the end of what waits.
    pub(crate) fn push(&self, line: String) {
        self.waiting.add(line.len() + 1);
        // The thread takes lines for as long as there is a sender.
        let _ = self.queue.send(line);
    }

    /// Waits until the reader has caught up far enough for more.
    pub(crate) async fn capacity(&self) {
        self.waiting.capacity().await;
    }

    /// Waits until all is written; a signal ends the wait, and so does time.
    pub(crate) async fn flush(&self) {
        let Ok(mut interrupts) = Interrupts::watch(None) else {
            return;
        };
        tokio::select! {
            _ = timeout(LAST_LINES, self.waiting.empty()) => {}
            () = interrupts.recv() => {}
        }
    }
}

/// Writes data as it is. A reader that is slow holds up the caller alone, not
/// the other work of this program.
#[expect(clippy::disallowed_methods, reason = "this is the output module")]
pub(crate) async fn data(bytes: Bytes) {
    let write = move || {
        let mut out = io::stdout().lock();
        let _ = out.write_all(&bytes).and_then(|()| out.flush());
    };
    // The task cannot fail: a reader that has gone away is no error.
    let _ = tokio::task::spawn_blocking(write).await;
}

/// Longest part of a line that an agent or an upstream may have chosen, in bytes.
const MAX_QUOTED: usize = 500;

/// Text of an agent or an upstream, short enough to be part of a line.
pub(crate) fn truncate_line(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(MAX_QUOTED)];
    let end = if cut.len() < text.len() { " ..." } else { "" };
    format!("{cut}{end}")
}

/// Text without control characters, which could move the cursor or add lines.
fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

/// Writes one line for the person at the terminal, whoever has a part in it.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// Writes an error as one line, and its hint as another.
pub(crate) fn error(error: &Error) {
    note(&format!("error: {}", error.one_line()));
    if let Some(hint) = error.hint_text() {
        note(&format!("hint: {hint}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_says_stays_a_part_of_one_short_line() {
        assert_eq!(
            printable("a\x1b[2J\r\nerror: b\u{9b}1m"),
            "a [2J  error: b 1m"
        );
        assert_eq!(truncate_line("refused (401)"), "refused (401)");
        let long = "é".repeat(MAX_QUOTED);
        assert_eq!(
            truncate_line(&long),
            format!("{} ...", "é".repeat(MAX_QUOTED / 2))
        );
    }
}
