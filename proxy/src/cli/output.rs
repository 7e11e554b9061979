//! What the program prints: answers on standard output, failures on standard
//! error.

use std::io::Write as _;

/// One line of an answer.
#[expect(clippy::disallowed_methods, reason = "this is the output module")]
pub(super) fn line(text: &str) {
    // A reader that has gone needs no answer.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Why the command failed: the error and its causes on one line, hints below.
pub(super) fn failure(error: &anyhow::Error) {
    let (mut line, mut hints) = (String::new(), Vec::new());
    for cause in error.chain() {
        let text = cause.to_string();
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(first);
        hints.extend(lines.map(str::to_owned));
    }
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "error: {line}");
    for hint in hints {
        let _ = writeln!(stderr, "{hint}");
    }
}
