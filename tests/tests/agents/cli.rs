//! The agents: what each is, where it runs and how it is asked.

use std::path::PathBuf;

use drawbridge_runner::Abilities;
use drawbridge_shared::protocol::AgentKind;
use drawbridge_testkit::launcher::Credential;
use drawbridge_testkit::{Answer, Launcher, Turn, Upstream, engine};
use serde_json::{Value, json};

const VERSIONS: &str = include_str!("../../../container/image/versions.toml");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cli {
    Claude,
    OldestClaude,
    Codex,
    Opencode,
    Gemini,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the image of ours, sealed.
    Container,
    /// On this machine.
    Host,
}

/// What a test runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) cli: Cli,
    pub(crate) place: Place,
}

impl Cli {
    const fn name(self) -> &'static str {
        match self {
            Self::OldestClaude => "claude-oldest",
            other => other.kind().name(),
        }
    }

    pub(crate) const fn kind(self) -> AgentKind {
        match self {
            Self::Claude | Self::OldestClaude => AgentKind::Claude,
            Self::Codex => AgentKind::Codex,
            Self::Opencode => AgentKind::Opencode,
            Self::Gemini => AgentKind::Gemini,
        }
    }

    /// What its adapter declares that it can do.
    pub(crate) const fn abilities(self) -> Abilities {
        Abilities::of(self.kind())
    }

    /// The name that `DRAWBRIDGE_TESTS_REQUIRE` knows.
    pub(crate) const fn requirement(self) -> &'static str {
        self.kind().name()
    }

    /// The pinned version.
    pub(crate) fn version(self) -> &'static str {
        let key = match self {
            Self::Claude => "claude-code",
            Self::OldestClaude => "claude-code-oldest",
            other => other.name(),
        };
        let line = VERSIONS.lines().find_map(|line| {
            let (name, value) = line.split_once(" = ")?;
            (name == key).then_some(value)
        });
        line.expect(key).trim_matches('"')
    }

    const fn credential(self) -> Credential {
        match self {
            Self::Claude | Self::OldestClaude | Self::Opencode => Credential::ApiKey,
            Self::Codex => Credential::Openai,
            Self::Gemini => Credential::Gemini,
        }
    }

    /// The model's call of a shell command.
    pub(crate) fn shell(self, turn: &Turn<'_>, command: &str) -> Option<Answer> {
        let described = json!({ "command": command, "description": "run a test command" });
        Some(match self {
            Self::Claude | Self::OldestClaude => Answer::tool("Bash", described),
            Self::Opencode => Answer::tool(&turn.offered_tool("bash")?, described),
            Self::Gemini => Answer::tool(&turn.offered_tool("run_shell_command")?, described),
            Self::Codex => Answer::tool(
                "exec",
                format!(
                    "const r = await tools.exec_command({}); text(r.output);",
                    json!({ "cmd": command })
                ),
            ),
        })
    }

    /// The model's call of a subagent; none when that is not offered.
    pub(crate) fn subagent(self, turn: &Turn<'_>, prompt: &str) -> Option<Answer> {
        let (tool, kind) = if self == Self::Opencode {
            // With its other tools comes this one.
            turn.offered_tool("bash")?;
            ("task", "general")
        } else {
            ("Task", "general-purpose")
        };
        let input = json!({
            "description": "a small piece of work", "prompt": prompt,
            "subagent_type": kind, "run_in_background": false,
        });
        Some(Answer::tool(tool, input))
    }

    /// The model's call of a tool of the host; none when it is not offered, as
    /// in requests for a title.
    pub(crate) fn host_tool(self, turn: &Turn<'_>, tool: &str, input: &Value) -> Option<Answer> {
        Some(match self {
            // Its tools of servers can be called without having been offered.
            Self::Claude | Self::OldestClaude => {
                Answer::tool(&format!("mcp__nanoclaw__{tool}"), input.clone())
            }
            Self::Opencode | Self::Gemini => Answer::tool(
                &turn.offered_tool(&format!("nanoclaw_{tool}"))?,
                input.clone(),
            ),
            Self::Codex => Answer::tool(
                "exec",
                format!(
                    "const r = await tools.mcp__nanoclaw__{tool}({input}); text(r.content[0].text);"
                ),
            ),
        })
    }
}

impl Setting {
    const fn new(cli: Cli, place: Place) -> Self {
        Self { cli, place }
    }

    pub(crate) const ALL: [Self; 6] = [
        Self::new(Cli::Claude, Place::Container),
        Self::new(Cli::OldestClaude, Place::Host),
        Self::new(Cli::Codex, Place::Container),
        Self::new(Cli::Codex, Place::Host),
        Self::new(Cli::Opencode, Place::Container),
        Self::new(Cli::Gemini, Place::Host),
    ];

    /// Codex, which has an image, is only started once on the host.
    pub(crate) const fn is_whole_suite(self) -> bool {
        !matches!((self.cli, self.place), (Cli::Codex, Place::Host))
    }

    pub(crate) fn name(self) -> String {
        let place = match self.place {
            Place::Container => "sealed",
            Place::Host => "host",
        };
        format!("{}::{place}", self.cli.name())
    }

    /// Why its tests cannot run here, if so.
    pub(crate) fn availability(self) -> Result<(), String> {
        match self.place {
            Place::Container => {
                engine::availability()?;
                let name = self.cli.name();
                let image = format!("drawbridge/{name}:{}", env!("CARGO_PKG_VERSION"));
                if engine::has_image(&image) {
                    return Ok(());
                }
                Err(format!(
                    "image {image} is missing; hint: drawbridge build-image {name}"
                ))
            }
            Place::Host => {
                let folder = std::env::var_os("DRAWBRIDGE_TESTS_AGENTS");
                let folder = folder.ok_or("DRAWBRIDGE_TESTS_AGENTS is not set")?;
                let program = PathBuf::from(folder).join(self.cli.name());
                if program.exists() {
                    return Ok(());
                }
                Err(format!("{} is missing", program.display()))
            }
        }
    }

    pub(crate) fn launcher(self, model: &Upstream) -> Launcher {
        Launcher::new(self.cli.credential(), model)
    }

    pub(crate) fn assert_injected(self, model: &Upstream) {
        self.cli.credential().assert_injected(model);
    }

    /// Arguments that choose the agent and its place, around others.
    pub(crate) fn args(self, others: &[&str]) -> Vec<String> {
        let kind = self.cli.kind().name();
        let mut args = match self.place {
            Place::Container => vec!["--runtime", "docker", "--network", "sealed"],
            Place::Host => vec!["--runtime", "host"],
        };
        args.extend(["--agent", kind]);
        args.extend(others);
        let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        if self.place == Place::Host {
            let folder = std::env::var("DRAWBRIDGE_TESTS_AGENTS").unwrap();
            args.extend(["--".to_owned(), format!("{folder}/{}", self.cli.name())]);
        }
        args
    }

    /// Starts `drawbridge run --json`.
    pub(crate) fn start(
        self,
        launcher: &Launcher,
        others: &[&str],
    ) -> drawbridge_testkit::launcher::Run {
        let args = self.args(others);
        launcher.start(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs one message to the end, with the answer alone on standard output.
    pub(crate) fn run(self, launcher: &Launcher, others: &[&str]) -> drawbridge_testkit::Ended {
        let args = self.args(others);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        launcher.run(&[&["run"][..], &args].concat())
    }
}

/// The word of the test in a message that the agent may have wrapped.
pub(crate) fn word(news: &str) -> &'static str {
    let words = ["apple", "banana", "cherry"];
    words
        .into_iter()
        .rfind(|word| news.contains(word))
        .unwrap_or("nothing")
}
