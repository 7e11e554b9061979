//! `credential-proxy` for other people's programs.

use drawbridge_testkit::{ProxyProgram, program_path};
use tempfile::TempDir;

/// Starts it in a folder of its own, with this `drawbridge.toml` and these
/// variables.
pub(crate) fn start(configuration: &str, variables: &[(&str, &str)]) -> ProxyProgram {
    start_in(tempfile::tempdir().unwrap(), configuration, variables)
}

/// Starts it in a folder that may hold more files.
pub(crate) fn start_in(
    folder: TempDir,
    configuration: &str,
    variables: &[(&str, &str)],
) -> ProxyProgram {
    let path = program_path("credential-proxy-dup");
    let mut command = ProxyProgram::command(&path, folder.path());
    command.envs(variables.iter().copied());
    ProxyProgram::start(&path, command, folder, configuration)
}
