//! `credential-proxy` with a configuration file and an admin socket.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use drawbridge_testkit::{Program, program_path};
use serde_json::Value;
use tempfile::TempDir;

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) program: Program,
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

impl Proxy {
    /// Starts it in a folder of its own, with this `drawbridge.toml` and these
    /// variables.
    pub(crate) fn start(configuration: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, configuration, variables)
    }

    /// The same in a folder that may hold more files.
    pub(crate) fn start_in(
        folder: TempDir,
        configuration: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        fs::write(folder.path().join("drawbridge.toml"), configuration).unwrap();
        let mut command = command(folder.path());
        command
            .args(["--bind", "127.0.0.1", "--port", "0", "--admin-socket"])
            .arg(folder.path().join("admin.sock"))
            .envs(variables.iter().copied());
        let program = Program::start(&mut command);
        let address = program.wait_for_err("its address", |err| {
            let (_, rest) = err.split_once("127.0.0.1:")?;
            let port = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            format!("127.0.0.1:{port}").parse().ok()
        });
        Self {
            program,
            address,
            folder,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the admin client prints for a command.
    pub(crate) fn admin(&self, arguments: &[&str]) -> Value {
        let mut command = command(self.folder.path());
        command.args(arguments).arg("--admin-socket");
        let ended = Program::run(command.arg(self.path("admin.sock")));
        assert_eq!(ended.code, 0, "{}", ended.err);
        serde_json::from_str(&ended.out).unwrap()
    }

    /// The token of a new session.
    pub(crate) fn token(&self) -> String {
        // Its file is there a moment before anybody listens on it.
        self.program.wait_for_err("the admin socket", |err| {
            err.contains("admin socket is").then_some(())
        });
        let issued = self.admin(&["session", "issue"]);
        issued["token"].as_str().unwrap().to_owned()
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(program_path("credential-proxy-dup"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .current_dir(folder);
    command
}
