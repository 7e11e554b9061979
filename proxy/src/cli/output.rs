//! The output of the program: answers on standard output, failures on standard
//! error.

use std::error::Error;
use std::io::Write as _;

use crate::base::chain;
use crate::handle::hint_of;

/// One line of an answer.
#[expect(clippy::disallowed_methods, reason = "this is the output module")]
pub(super) fn line(text: &str) {
    // A reader that has gone needs no answer.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A failure: the error and its causes on one line, its hint below.
pub(super) fn failure(error: &(dyn Error + 'static)) {
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "error: {}", chain(error));
    if let Some(hint) = hint_of(error) {
        let _ = writeln!(stderr, "hint: {hint}");
    }
}
