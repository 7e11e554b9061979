//! Usage errors and help of the command line.

use std::io::Write;

use drawbridge_shared::exit::Exit;

use super::output;

/// Shows help, the version or a usage error, and says how to exit.
pub(crate) fn report(error: &clap::Error) -> Exit {
    if error.use_stderr() {
        // Nobody is left to tell when standard error is gone.
        let _ = write!(std::io::stderr(), "{}", error.render());
        Exit::Usage
    } else {
        output::data_line(error.render().to_string().trim_end());
        Exit::Success
    }
}
