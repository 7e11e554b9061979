//! The command by which an agent starts the MCP server that leads to the host.

use std::io;
use std::path::Path;

use drawbridge_shared::protocol::{RunInput, RunPaths};

use crate::mcp::{CHAT_JID, GROUP_FOLDER, IS_MAIN};
use crate::self_command::SelfCommand;

/// The server's command line and environment. Nothing in it is secret.
#[derive(Clone, Debug)]
pub(crate) struct HostTools {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(&'static str, String)>,
}

impl HostTools {
    /// The server's name, which NanoClaw's prompts and allow lists know.
    pub(crate) const NAME: &str = "nanoclaw";

    /// Describes the server for a run.
    ///
    /// # Errors
    /// The path of this program cannot be found.
    pub(crate) fn new(
        self_command: &SelfCommand,
        input: &RunInput,
        paths: &RunPaths,
    ) -> io::Result<Self> {
        // The agent starts the server, and its `/proc/self/exe` is another one.
        let program = if self_command.program.starts_with("/proc/self") {
            std::env::current_exe()?
        } else {
            self_command.program.clone()
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let arguments = self_command.arguments.iter();
        let mut args: Vec<_> = arguments
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect();
        args.extend(["mcp".to_owned(), "--ipc".to_owned(), text(&paths.ipc)]);
        args.extend(["--workspace".to_owned(), text(&paths.workspace)]);
        Ok(Self {
            program: text(&program),
            args,
            env: vec![
                (CHAT_JID, input.chat_jid.clone()),
                (GROUP_FOLDER, input.group_folder.clone()),
                (IS_MAIN, if input.is_main { "1" } else { "0" }.to_owned()),
            ],
        })
    }
}
