//! `drawbridge` with a state folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::engine::{Container, HostProcess, availability, docker};
use crate::program::{Ended, Program, program_path};
use crate::upstream::Upstream;
use crate::{FAKE_KEY, FAKE_OAUTH, eventually};

/// Which credential the host holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `ANTHROPIC_API_KEY`.
    ApiKey,
    /// `CLAUDE_CODE_OAUTH_TOKEN`.
    Oauth,
    /// `OPENAI_API_KEY`.
    Openai,
    /// `GEMINI_API_KEY`.
    Gemini,
}

impl Credential {
    /// The real secret, which is a fake.
    #[must_use]
    pub const fn secret(self) -> &'static str {
        match self {
            Self::ApiKey | Self::Openai | Self::Gemini => FAKE_KEY,
            Self::Oauth => FAKE_OAUTH,
        }
    }

    /// The variable that holds it on the host, and a placeholder in a container.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::ApiKey => "ANTHROPIC_API_KEY",
            Self::Oauth => "CLAUDE_CODE_OAUTH_TOKEN",
            Self::Openai => "OPENAI_API_KEY",
            Self::Gemini => "GEMINI_API_KEY",
        }
    }

    /// The preset of its route, where an environment variable for the upstream's
    /// address is not known.
    const fn preset(self) -> Option<&'static str> {
        match self {
            Self::ApiKey | Self::Oauth => None,
            Self::Openai => Some("openai"),
            Self::Gemini => Some("gemini"),
        }
    }

    /// Checks that an upstream saw the real credential on every request, at its
    /// place, and no other one.
    ///
    /// # Panics
    /// It did not, or there was no request.
    pub fn assert_injected(self, upstream: &Upstream) {
        let requests = upstream.requests();
        assert!(!requests.is_empty(), "the upstream saw no request");
        let bearer = format!("Bearer {}", self.secret());
        let expected = match self {
            Self::ApiKey => [vec![FAKE_KEY], vec![], vec![]],
            Self::Oauth | Self::Openai => [vec![], vec![bearer.as_str()], vec![]],
            Self::Gemini => [vec![], vec![], vec![FAKE_KEY]],
        };
        for request in requests {
            let seen =
                ["x-api-key", "authorization", "x-goog-api-key"].map(|name| request.all(name));
            assert_eq!(seen, expected, "{} {}", request.method, request.target);
        }
    }
}

/// An installation of the launcher for one test. Dropping it removes every
/// container that the installation has left.
#[derive(Debug)]
pub struct Launcher {
    folder: TempDir,
    upstream: String,
    credential: Credential,
    /// Another engine than the usual one.
    engine: Option<String>,
}

impl Launcher {
    /// An installation whose real upstream is a stand-in.
    ///
    /// # Panics
    /// There is no room for temporary files.
    #[must_use]
    pub fn new(credential: Credential, upstream: &Upstream) -> Self {
        // A short path: unix sockets below it have at most 107 bytes.
        let folder = tempfile::Builder::new()
            .prefix("dbt")
            .tempdir_in("/tmp")
            .unwrap();
        for name in ["cwd", "home", "state"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        if let Some(preset) = credential.preset() {
            let url = upstream.url();
            let route = format!("[[route]]\npreset = \"{preset}\"\nupstream = \"{url}\"\n");
            fs::write(folder.path().join("cwd/drawbridge.toml"), route).unwrap();
        }
        Self {
            folder,
            upstream: upstream.url(),
            credential,
            engine: None,
        }
    }

    /// The same with another Docker engine.
    #[must_use]
    pub fn with_engine(mut self, host: &str) -> Self {
        self.engine = Some(host.to_owned());
        self
    }

    /// Gives the host a login of Codex in the place of a key, and the route for it
    /// that the documentation shows. Returns the login's token, and its account.
    ///
    /// # Panics
    /// The documentation shows no such route.
    #[must_use]
    pub fn log_in_to_codex(&self) -> (String, &'static str) {
        let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/credentials.md");
        let text = fs::read_to_string(documents).unwrap();
        let (_, section) = text.split_once("### Codex's login\n").unwrap();
        let route = section.split("```").nth(1).unwrap();
        let route = route.strip_prefix("toml\n").unwrap();
        let route = route.replace("https://chatgpt.com", &self.upstream);
        assert!(route.contains(&self.upstream), "{route}");
        fs::write(self.working_directory().join("drawbridge.toml"), route).unwrap();
        // It ends in the year 2100.
        let claims = URL_SAFE_NO_PAD.encode(json!({ "exp": 4_102_444_800_u64 }).to_string());
        let token = format!("fake.{claims}.signature");
        let login = json!({"tokens": {"id_token": "fake", "access_token": token,
                                      "refresh_token": "fake", "account_id": "account-1"}});
        let folder = self.home().join(".codex");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("auth.json"), login.to_string()).unwrap();
        (token, "account-1")
    }

    /// The state folder.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The home of its user.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The working directory of its commands.
    #[must_use]
    pub fn working_directory(&self) -> PathBuf {
        self.folder.path().join("cwd")
    }

    /// A group's folder.
    #[must_use]
    pub fn group(&self, name: &str) -> PathBuf {
        self.state().join("groups").join(name)
    }

    /// `drawbridge` with the host's credential in its environment.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program_path("drawbridge-dup"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path().join("home"))
            .env("DRAWBRIDGE_STATE_DIR", self.state())
            // Other images than those of this version, such as one under work.
            .envs(
                std::env::var_os("DRAWBRIDGE_TESTS_IMAGE").map(|image| ("DRAWBRIDGE_IMAGE", image)),
            )
            .envs(self.engine.iter().map(|host| ("DOCKER_HOST", host)))
            .env("ANTHROPIC_BASE_URL", &self.upstream)
            .env(self.credential.variable(), self.credential.secret())
            .current_dir(self.working_directory());
        command
    }

    /// Starts `drawbridge run --json` with more arguments.
    #[must_use]
    pub fn start(&self, args: &[&str]) -> Run {
        Run(Program::start(
            &mut self.command(&[&["run", "--json"], args].concat()),
        ))
    }

    /// Runs a command to its end.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Ended {
        Program::run(&mut self.command(args))
    }

    /// The id that labels this installation's containers.
    #[must_use]
    pub fn install_id(&self) -> String {
        eventually("the install id", || {
            let text = fs::read_to_string(self.state().join("install-id")).ok()?;
            (!text.trim().is_empty()).then(|| text.trim().to_owned())
        })
    }

    /// The running container of this installation.
    #[must_use]
    pub fn container(&self) -> Container {
        Container::wait_for(&self.install_id())
    }

    /// Ids of the runs that have a folder.
    #[must_use]
    pub fn run_ids(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state().join("runs"))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Fails unless nothing of any run is left.
    ///
    /// # Panics
    /// A container, a process or a run's folder is there.
    pub fn assert_nothing_left(&self) {
        // Without an engine there is nothing that could have been left there.
        if availability().is_ok() {
            let containers = Container::all_of(&self.install_id());
            assert!(containers.is_empty(), "left behind: {containers:?}");
            let filter = format!("label=drawbridge.install={}", self.install_id());
            let networks = docker(&["network", "ls", "--quiet", "--filter", &filter]).out;
            assert_eq!(networks, "", "networks left behind");
        }
        assert_eq!(
            self.run_ids(),
            Vec::<String>::new(),
            "run folders left behind"
        );
        let state = self.state().display().to_string();
        let processes: Vec<_> = HostProcess::all()
            .into_iter()
            .filter(|process| process.command_line().contains(&state))
            .collect();
        assert!(processes.is_empty(), "left behind: {processes:?}");
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let Ok(id) = fs::read_to_string(self.state().join("install-id")) else {
            return;
        };
        let filter = format!("label=drawbridge.install={}", id.trim());
        let found = docker(&["ps", "--all", "--quiet", "--filter", &filter]).out;
        for container in found.split_whitespace() {
            let _ = docker(&["rm", "--force", container]);
        }
        let found = docker(&["network", "ls", "--quiet", "--filter", &filter]).out;
        for network in found.split_whitespace() {
            let _ = docker(&["network", "rm", network]);
        }
    }
}

/// A running `drawbridge run --json`.
#[derive(Debug)]
pub struct Run(pub Program);

impl Run {
    /// Sends a follow-up.
    pub fn send(&mut self, text: &str) {
        self.0
            .write(&format!("{}\n", json!({ "type": "message", "text": text })));
    }

    /// Sends something else than a message, such as `interrupt`.
    pub fn request(&mut self, kind: &str) {
        self.0.write(&format!("{}\n", json!({ "type": kind })));
    }

    /// Waits for the first event that satisfies a predicate.
    #[must_use]
    pub fn wait_for_event(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        self.0
            .wait_for_out(what, |out| events(out).into_iter().find(&matches))
    }

    /// Asks for the end of the conversation.
    pub fn close(&mut self) {
        self.0.write("{\"type\":\"close\"}\n");
    }

    /// Waits until this many answers have come, and returns them.
    #[must_use]
    pub fn wait_for_answers(&self, count: usize) -> Vec<String> {
        self.0.wait_for_out("its answers", |out| {
            let answers = answers(out);
            (answers.len() >= count).then_some(answers)
        })
    }

    /// Closes the conversation and waits for the end.
    #[must_use]
    pub fn finish(mut self) -> Ended {
        self.close();
        self.0.close_stdin();
        self.0.wait()
    }
}

/// The events in the output of `drawbridge run --json`.
///
/// # Panics
/// A line is not JSON.
#[must_use]
pub fn events(out: &str) -> Vec<Value> {
    let whole_lines = out
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    whole_lines
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

/// The answers among the events.
#[must_use]
pub fn answers(out: &str) -> Vec<String> {
    let texts = events(out)
        .into_iter()
        .filter(|event| event["status"] == "success");
    texts
        .filter_map(|event| event["result"].as_str().map(str::to_owned))
        .collect()
}

/// The errors among the events.
#[must_use]
pub fn errors(out: &str) -> Vec<String> {
    let texts = events(out)
        .into_iter()
        .filter(|event| event["status"] == "error");
    texts
        .filter_map(|event| event["error"].as_str().map(str::to_owned))
        .collect()
}

/// All regular files below a folder.
#[must_use]
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}
