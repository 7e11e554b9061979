//! `credential-proxy` as a program, with a configuration file and an admin socket.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::program::{Ended, Program};

/// A running `credential-proxy` on a loopback port, in a folder of its own.
#[derive(Debug)]
pub struct ProxyProgram {
    /// The program.
    pub program: Program,
    /// The address for agents.
    pub address: SocketAddr,
    path: PathBuf,
    folder: TempDir,
}

impl ProxyProgram {
    /// A command of this program in a folder, with an empty environment.
    #[must_use]
    pub fn command(program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder)
            .current_dir(folder);
        command
    }

    /// Starts a program in a folder with this `drawbridge.toml`. The command gets
    /// the arguments for the listener and the admin socket; it may be a shell that
    /// passes them on.
    ///
    /// # Panics
    /// It does not listen in time.
    #[must_use]
    pub fn start(path: &Path, mut command: Command, folder: TempDir, configuration: &str) -> Self {
        fs::write(folder.path().join("drawbridge.toml"), configuration).unwrap();
        command
            .args(["--bind", "127.0.0.1", "--port", "0", "--admin-socket"])
            .arg(folder.path().join("admin.sock"));
        let program = Program::start(&mut command);
        let address = log_line(&program, "listening on ").parse().unwrap();
        Self {
            program,
            address,
            path: path.to_owned(),
            folder,
        }
    }

    /// A path in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The rest of the first log line that has this text, once it is there.
    ///
    /// # Panics
    /// It does not come in time.
    pub fn wait_for_log(&self, text: &str) -> String {
        log_line(&self.program, text)
    }

    /// Runs a command of the admin client.
    #[must_use]
    pub fn try_admin(&self, arguments: &[&str]) -> Ended {
        // Its file is there a moment before the socket takes connections.
        self.wait_for_log("admin socket is ");
        let mut command = Self::command(&self.path, self.folder.path());
        command.args(arguments).arg("--admin-socket");
        Program::run(command.arg(self.path("admin.sock")))
    }

    /// The document that the admin client prints for a command.
    ///
    /// # Panics
    /// The command fails.
    #[must_use]
    pub fn admin(&self, arguments: &[&str]) -> Value {
        let ended = self.try_admin(arguments);
        assert_eq!(ended.code, 0, "{}", ended.err);
        serde_json::from_str(&ended.out).unwrap()
    }

    /// A new session, with more arguments.
    #[must_use]
    pub fn issue(&self, arguments: &[&str]) -> Value {
        let issue = ["session", "issue"].iter().chain(arguments);
        self.admin(&issue.copied().collect::<Vec<_>>())
    }

    /// The token of a new session.
    ///
    /// # Panics
    /// None is issued.
    #[must_use]
    pub fn token(&self) -> String {
        self.issue(&[])["token"].as_str().unwrap().to_owned()
    }

    /// The status of a GET request with this token.
    #[must_use]
    pub fn get(&self, path: &str, token: &str) -> u16 {
        let headers = format!("x-api-key: {token}\r\n");
        Client::ask(self.address, "GET", path, &headers, "").status
    }
}

fn log_line(program: &Program, text: &str) -> String {
    program.wait_for_err(text, |log| {
        let (_, rest) = log.split_once(text)?;
        let (line, _) = rest.split_once('\n')?;
        Some(line.trim().to_owned())
    })
}
