//! A container engine, reached through its command line program.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use drawbridge_shared::ids::RunId;

use crate::error::{Context, Error, Result};
use crate::process::{Argv, Captured, capture};
use crate::spec::ImageRef;

use super::{Facts, apple};

/// Longest wait for an answer of the engine's daemon.
pub(super) const ANSWER: Duration = Duration::from_secs(20);
/// Longest time for a container to stop cleanly; its runner gives the agent
/// less than that.
const STOP_GRACE: Duration = Duration::from_secs(8);
/// Longest wait for a container to be gone after it was killed.
const GONE: Duration = Duration::from_secs(20);

/// The engines, by their command line programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Docker,
    Podman,
    /// Apple's `container`.
    Apple,
}

/// A container or network of ours that an engine knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) run: String,
}

impl Engine {
    pub(crate) const ALL: [Self; 3] = [Self::Docker, Self::Podman, Self::Apple];

    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Apple => "container",
        }
    }

    /// Its name as a runtime in settings.
    pub(crate) const fn choice(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Apple => "apple",
        }
    }

    /// Name under which a container on a bridge reaches this machine.
    pub(crate) const fn host_alias(self) -> &'static str {
        match self {
            Self::Docker | Self::Podman => "host.docker.internal",
            Self::Apple => "host.container.internal",
        }
    }

    /// The engine a run was started with.
    pub(crate) fn named(program: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|engine| engine.program() == program)
    }

    pub(super) async fn ask(self, args: &[&str], deadline: Duration) -> io::Result<Captured> {
        let argv = Argv::new(self.program(), args);
        capture(argv.engine_command(), deadline).await
    }

    /// Asks the engine whether it runs, and what it can do.
    pub(crate) async fn probe(self) -> Result<Facts> {
        let program = self.program();
        let question: &[&str] = match self {
            Self::Docker | Self::Podman => &["info", "--format", "{{json .}}"],
            Self::Apple => &["system", "status"],
        };
        let shown = format!("{program} {}", question.join(" "));
        let answer = self
            .ask(question, ANSWER)
            .await
            .map_err(|cause| match cause.kind() {
                io::ErrorKind::NotFound => {
                    Error::not_started(format!("{program} is not installed, or not in PATH"))
                        .hint(format!("install {program}, or choose another --runtime"))
                }
                _ => Error::not_started(format!("{shown} failed")).caused_by(cause),
            })?;
        let stopped = || {
            Error::not_started(format!("the {program} engine does not answer"))
                .hint(format!("start it, and try `{shown}`"))
        };
        if !answer.status.success() {
            return Err(stopped().caused_by(answer.stderr_summary()));
        }
        let facts = match self {
            Self::Docker => Facts::from_docker(&answer.stdout),
            Self::Podman => Facts::from_podman(&answer.stdout),
            Self::Apple => {
                self.require_host_domain().await?;
                Ok(Facts::of_apple())
            }
        };
        facts.context(stopped)
    }

    /// Apple's containers reach this machine under a name that has to be set up
    /// once, by an administrator.
    async fn require_host_domain(self) -> Result<()> {
        let (program, name) = (self.program(), self.host_alias());
        let args = ["system", "dns", "list"];
        let failed = || Error::not_started(format!("{program} {} failed", args.join(" ")));
        let answer = self.ask(&args, ANSWER).await.context(failed)?;
        if answer
            .stdout
            .split_ascii_whitespace()
            .any(|word| word == name)
        {
            return Ok(());
        }
        let message = format!("containers cannot reach this machine: {name} is not set up");
        Err(Error::not_started(message).hint(format!(
            "once: sudo {program} system dns create {name} --localhost 203.0.113.113"
        )))
    }

    /// The engine's version, for people.
    pub(crate) async fn version(self) -> Result<String> {
        let args: &[&str] = match self {
            Self::Docker => &[
                "version",
                "--format",
                "{{.Server.Version}} on {{.Server.Os}}/{{.Server.Arch}}",
            ],
            Self::Podman => &[
                "version",
                "--format",
                "{{.Client.Version}} on {{.Client.OsArch}}",
            ],
            Self::Apple => &["--version"],
        };
        let failed = || Error::infrastructure("its version cannot be read");
        let answer = self.ask(args, ANSWER).await;
        Ok(answer.context(failed)?.stdout.trim().to_owned())
    }

    /// The value of one of an image's labels; empty when it has none.
    pub(crate) async fn image_label(self, image: &ImageRef, label: &str) -> Result<String> {
        let name = image.to_string();
        let failed = || Error::infrastructure(format!("the labels of {image} cannot be read"));
        if self == Self::Apple {
            let answer = self.ask(&["image", "inspect", &name], ANSWER).await;
            let answer = serde_json::from_str(&answer.context(failed)?.stdout).context(failed)?;
            return Ok(apple::image_label(&answer, label).unwrap_or_default());
        }
        let format = format!("{{{{index .Config.Labels {label:?}}}}}");
        let args = ["image", "inspect", "--format", &format, &name];
        let answer = self.ask(&args, ANSWER).await.context(failed)?;
        Ok(answer.stdout.trim().to_owned())
    }

    /// Makes sure that the image is there; it is never pulled.
    pub(crate) async fn require_image(self, image: &ImageRef) -> Result<()> {
        let (program, name) = (self.program(), image.to_string());
        let answer = self
            .ask(&["image", "inspect", &name], ANSWER)
            .await
            .context(|| Error::not_started(format!("{program} image inspect failed")))?;
        if answer.status.success() {
            return Ok(());
        }
        let error = Error::not_started(format!("{program} has no image {name}"))
            .caused_by(answer.stderr_summary());
        Err(match name.strip_prefix("drawbridge/") {
            Some(ours) => {
                let target = ours.split(':').next().unwrap_or(ours);
                match target {
                    "builtin" | "claude" | "codex" | "opencode" => {
                        error.hint(format!("drawbridge build-image {target}"))
                    }
                    _ => error.hint("build-image does not make it; name one with --image"),
                }
            }
            None => error.hint(format!("load it with `{program} load`; it is never pulled")),
        })
    }

    /// Starts a container and leaves it running.
    pub(crate) async fn run_detached(self, args: &[&str]) -> Result<()> {
        let failed = || Error::not_started(format!("{} {} failed", self.program(), args[0]));
        let answer = self.ask(args, ANSWER).await.context(failed)?;
        match answer.status.success() {
            true => Ok(()),
            false => Err(failed().caused_by(answer.stderr_summary())),
        }
    }

    /// The address of a container in its only network.
    pub(crate) async fn address_of(self, name: &str) -> Result<IpAddr> {
        const FORMAT: &str = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let failed = || Error::not_started(format!("{name} has no address"));
        let args = ["inspect", "--format", FORMAT, name];
        let answer = self.ask(&args, ANSWER).await.context(failed)?;
        answer.stdout.trim().parse().context(failed)
    }

    /// Ends a container: asks, then kills, then makes sure that it is gone.
    pub(crate) async fn stop(self, name: &str, run: &RunId) -> Result<()> {
        let grace = STOP_GRACE.as_secs().to_string();
        let deadline = STOP_GRACE + ANSWER;
        // Each step may fail because the container is gone already; whether it
        // is, the last step finds out.
        let _ = self.ask(&["stop", "-t", &grace, name], deadline).await;
        self.wait_until_gone(run).await
    }

    /// Kills what is left of a run, and makes sure that nothing is, its network
    /// included.
    pub(crate) async fn wait_until_gone(self, run: &RunId) -> Result<()> {
        let failed = || {
            let what = format!("cannot make sure that the container of {run} is gone");
            Error::infrastructure(what).hint("run `drawbridge clean` when the engine works again")
        };
        let deadline = tokio::time::Instant::now() + GONE;
        loop {
            let listed = self.list("drawbridge.run", run.as_str()).await;
            let Some(left) = listed.context(failed)?.pop() else {
                return self.remove_networks(run).await;
            };
            let left = left.id;
            if tokio::time::Instant::now() > deadline {
                return Err(failed().caused_by(format!("{left} is still there")));
            }
            // It fails when the engine is removing the container already.
            let _ = self.ask(&["rm", "--force", &left], ANSWER).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs of an installation that have a container or a network.
    pub(crate) async fn labelled_runs(self, install: &str) -> Result<BTreeSet<RunId>> {
        const LABEL: &str = "drawbridge.install";
        let mut listed = self.list(LABEL, install).await?;
        listed.extend(self.networks(LABEL, install).await?);
        Ok(listed.iter().filter_map(|c| c.run.parse().ok()).collect())
    }

    /// The containers that have a label of ours with this value.
    async fn list(self, label: &str, value: &str) -> Result<Vec<Listed>> {
        let words: &[&str] = match self {
            Self::Apple => &["list", "--all"],
            _ => &["ps", "--all"],
        };
        self.listed(words, label, value).await
    }

    /// Asks for containers or networks, and reads the answer.
    pub(super) async fn listed(
        self,
        words: &[&str],
        label: &str,
        value: &str,
    ) -> Result<Vec<Listed>> {
        const RUN: &str = "drawbridge.run";
        let filter = format!("label={label}={value}");
        let format = format!("{{{{.ID}}}} {{{{.Label {RUN:?}}}}}");
        let how: &[&str] = match self {
            Self::Apple => &["--format", "json"],
            _ => &["--no-trunc", "--filter", &filter, "--format", &format],
        };
        let args = [words, how].concat();
        let failed = || Error::infrastructure(format!("{} {} failed", self.program(), args[0]));
        let answer = self.ask(&args, ANSWER).await.context(failed)?;
        if !answer.status.success() {
            return Err(failed().caused_by(answer.stderr_summary()));
        }
        if self != Self::Apple {
            let words = answer.stdout.lines().filter(|line| !line.is_empty());
            let lines = words.map(|line| line.split_once(' ').unwrap_or((line, "")));
            let listed = lines.map(|(id, run)| Listed {
                id: id.into(),
                run: run.into(),
            });
            return Ok(listed.collect());
        }
        let all: Vec<apple::Listed> = serde_json::from_str(&answer.stdout).context(failed)?;
        let ours = all.into_iter().map(|listed| listed.configuration);
        let ours = ours.filter(|c| c.labels.get(label).is_some_and(|found| found == value));
        Ok(ours
            .map(|c| Listed {
                run: c.labels.get(RUN).cloned().unwrap_or_default(),
                id: c.into_id(),
            })
            .collect())
    }
}
