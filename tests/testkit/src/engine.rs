//! The container engine, as a test looks at it from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{Ended, Program};
use crate::wait::eventually;

/// Runs the engine's command line.
#[must_use]
pub fn docker(args: &[&str]) -> Ended {
    Program::run(Command::new("docker").args(args))
}

/// Runs the engine's command line and returns what it printed.
///
/// # Panics
/// It fails.
#[must_use]
pub fn docker_ok(args: &[&str]) -> String {
    let ended = docker(args);
    assert_eq!(ended.code, 0, "docker {args:?}: {}", ended.err);
    ended.out.trim().to_owned()
}

/// Why no engine can be used, if so.
///
/// # Errors
/// The program is missing or no engine answers.
pub fn availability() -> Result<(), String> {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join("docker").is_file())
    });
    if !found {
        return Err("docker is not installed".to_owned());
    }
    let ended = docker(&["info", "--format", "{{.ServerVersion}}"]);
    if ended.code == 0 {
        Ok(())
    } else {
        Err("no Docker engine answers".to_owned())
    }
}

/// Whether an image is there.
#[must_use]
pub fn has_image(name: &str) -> bool {
    docker(&["image", "inspect", "--format", "{{.Id}}", name]).code == 0
}

/// A container, running or not.
#[derive(Clone, Debug)]
pub struct Container(pub String);

impl Container {
    /// The containers of an install of Drawbridge, also stopped ones.
    #[must_use]
    pub fn all_of(install: &str) -> Vec<Self> {
        let filter = format!("label=drawbridge.install={install}");
        let out = docker_ok(&["ps", "--all", "--no-trunc", "--quiet", "--filter", &filter]);
        out.split_whitespace()
            .map(|id| Self(id.to_owned()))
            .collect()
    }

    /// Waits for the one running container of an install.
    ///
    /// # Panics
    /// There is none in time.
    #[must_use]
    pub fn wait_for(install: &str) -> Self {
        eventually("the container to run", || {
            let all = Self::all_of(install);
            all.into_iter().find(|container| container.is_running())
        })
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        docker(&["inspect", "--format", "{{.State.Running}}", &self.0])
            .out
            .trim()
            == "true"
    }

    /// Everything the engine says about it.
    #[must_use]
    pub fn inspect(&self) -> String {
        docker_ok(&["inspect", &self.0])
    }

    /// Runs a shell command in it as its root user.
    #[must_use]
    pub fn shell(&self, command: &str) -> Ended {
        docker(&["exec", "--user", "0:0", &self.0, "/bin/sh", "-c", command])
    }

    /// Its whole file system, as a tar file in a folder.
    #[must_use]
    pub fn export(&self, folder: &Path) -> PathBuf {
        let path = folder.join("container.tar");
        let _ = docker_ok(&["export", "--output", &path.display().to_string(), &self.0]);
        path
    }

    /// Its processes, as the host sees them.
    #[must_use]
    pub fn processes(&self) -> Vec<HostProcess> {
        let out = docker_ok(&["top", &self.0, "-eo", "pid"]);
        let ids = out.split_whitespace().filter_map(|word| word.parse().ok());
        ids.map(HostProcess).collect()
    }
}

/// A process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostProcess(pub u32);

impl HostProcess {
    /// All processes of this machine.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names
            .filter_map(|name| name.parse().ok())
            .map(Self)
            .collect()
    }

    /// The processes that carry a variable with this value in their environment.
    #[must_use]
    pub fn with_variable(name: &str, value: &str) -> Vec<Self> {
        let wanted = format!("{name}={value}");
        let carries = |process: &Self| {
            process
                .environment()
                .split(|byte| *byte == 0)
                .any(|one| one == wanted.as_bytes())
        };
        Self::all().into_iter().filter(carries).collect()
    }

    /// The processes that a process has started, directly or not.
    #[must_use]
    pub fn descendants_of(id: u32) -> Vec<Self> {
        let mut found = vec![Self(id)];
        let mut all = Self::all();
        loop {
            let (children, others): (Vec<_>, Vec<_>) = all.iter().partition(|process| {
                found
                    .iter()
                    .any(|parent| process.parent() == Some(parent.0))
            });
            if children.is_empty() {
                found.remove(0);
                return found;
            }
            found.extend(children);
            all = others;
        }
    }

    fn parent(self) -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    }

    /// Its command line, arguments separated by spaces; empty when it is gone.
    #[must_use]
    pub fn command_line(self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.0)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    }

    /// Its environment at its start, separated by NUL; empty when it is gone.
    #[must_use]
    pub fn environment(self) -> Vec<u8> {
        fs::read(format!("/proc/{}/environ", self.0)).unwrap_or_default()
    }

    /// Whether it runs; a zombie does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    /// Kills it; false when it is gone.
    pub fn kill(self) -> bool {
        let id = i32::try_from(self.0)
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let kill = |id| rustix::process::kill_process(id, rustix::process::Signal::KILL);
        id.is_some_and(|id| kill(id).is_ok())
    }
}
