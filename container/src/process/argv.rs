//! Argument lists of programs, and the environment that each kind of program gets.

use std::ffi::{OsStr, OsString};
use std::process::Stdio;

use drawbridge_proxy::config::Preset;
use drawbridge_runner::SelfCommand;
use drawbridge_shared::env;
use tokio::process::Command;

use super::AGENT_RUNNER;

/// Variables that an engine's command line program needs: where its
/// engine is, and how to show things.
const ENGINE_VARIABLES: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TMPDIR",
    "TZ",
    "SSH_AUTH_SOCK",
    "DBUS_SESSION_BUS_ADDRESS",
    "NO_PROXY",
    "no_proxy",
];
const ENGINE_PREFIXES: [&str; 6] = [
    "DOCKER_",
    "CONTAINER_",
    "CONTAINERS_",
    "PODMAN_",
    "XDG_",
    "LC_",
];

/// Variables that an agent on the host needs.
const HOST_VARIABLES: [&str; 7] = ["PATH", "USER", "LOGNAME", "LANG", "TMPDIR", "TZ", "TERM"];

/// A program and its arguments, before anything is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argv {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
}

impl Argv {
    pub(crate) fn new<I: Into<OsString>>(
        program: impl Into<OsString>,
        args: impl IntoIterator<Item = I>,
    ) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
        }
    }

    /// This program, with these arguments.
    pub(crate) fn this_program<I: Into<OsString>>(args: impl IntoIterator<Item = I>) -> Self {
        let this = SelfCommand::this_program(args.into_iter().map(Into::into));
        Self::new(this.program, this.arguments)
    }

    /// This program's own runner, with these arguments.
    pub(crate) fn runner<I: Into<OsString>>(args: impl IntoIterator<Item = I>) -> Self {
        let mut argv = Self::this_program([AGENT_RUNNER]);
        argv.args.extend(args.into_iter().map(Into::into));
        argv
    }

    /// This program behind a runner that sends it TERM when this process dies.
    pub(crate) fn tied(self) -> Self {
        let parent = std::process::id().to_string();
        let mut argv = Self::runner(["tied", "--signal", "term", "--parent", &parent, "--"]);
        argv.args.push(self.program);
        argv.args.extend(self.args);
        argv
    }

    /// The command of an engine's program.
    pub(crate) fn engine_command(&self) -> Command {
        self.command(|name| {
            ENGINE_VARIABLES.iter().any(|known| name == *known)
                || ENGINE_PREFIXES.iter().any(|known| {
                    let name = name.as_encoded_bytes();
                    name.starts_with(known.as_bytes())
                })
        })
    }

    /// The command of an agent on the host.
    pub(crate) fn host_command(&self) -> Command {
        self.command(|name| {
            HOST_VARIABLES.iter().any(|known| name == *known)
                || name.as_encoded_bytes().starts_with(b"LC_")
        })
    }

    /// The command of a tool that builds something: such tools take settings
    /// from all over the environment, but have no use for our credentials.
    pub(crate) fn tool_command(&self) -> Command {
        self.command(|name| !is_credential(name))
    }

    fn command(&self, is_allowed: impl Fn(&OsStr) -> bool) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_allowed(name)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C at the terminal is for us; we then stop it in order.
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// Whether a variable holds what the proxy injects.
fn is_credential(name: &OsStr) -> bool {
    let known = Preset::ALL.into_iter().flat_map(Preset::variables);
    name == env::ANTHROPIC_AUTH_TOKEN || known.into_iter().any(|known| name == *known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_22_no_tool_inherits_a_vendors_key() {
        for name in [
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "OPENAI_API_KEY",
            "GEMINI_API_KEY",
            "GITHUB_TOKEN",
        ] {
            assert!(is_credential(name.as_ref()), "{name}");
        }
        assert!(!is_credential("PATH".as_ref()));
    }
}
