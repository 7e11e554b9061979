//! Errors with their causes.

use std::error::Error;

/// An error and its causes on one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(error.to_string().trim_end());
        cause = error.source();
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write {0}")]
    struct Outer(&'static str, #[source] io::Error);

    #[test]
    fn causes_follow_in_one_line() {
        let error = Outer("/state/x", io::Error::other("disk\nfull\n"));
        assert_eq!(chain(&error), "cannot write /state/x: disk full");
    }
}
