//! The only place that writes to the terminal.
//!
//! Answers and data go to standard output, everything else to standard error.
//! A reader that has gone away is not an error of ours: what it does not want
//! to read is dropped.

use std::io::{self, Write};

use bytes::Bytes;

use crate::error::Error;

/// Writes one line of an answer or of data.
#[expect(clippy::disallowed_methods, reason = "this is the output module")]
pub(crate) fn data_line(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
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

/// Writes one line for the person at the terminal.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes an error as one line, and its hint as another.
pub(crate) fn error(error: &Error) {
    note(&format!("error: {}", error.one_line()));
    if let Some(hint) = error.hint_text() {
        note(&format!("hint: {hint}"));
    }
}
