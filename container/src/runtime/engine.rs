//! A container engine, reached through its command line program.

mod facts;

use std::io;
use std::time::Duration;

use drawbridge_shared::ids::RunId;

use crate::error::{Context, Error, Result};
use crate::process::{Argv, Captured, capture};
use crate::spec::ImageRef;

pub(crate) use facts::Facts;

/// Longest wait for an answer of the engine's daemon.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a container may take to end in order; its runner gives the agent
/// less than that.
const STOP_GRACE: Duration = Duration::from_secs(8);
/// Longest wait for a container to be gone after it was killed.
const GONE: Duration = Duration::from_secs(20);

/// The engines whose programs understand `docker run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Docker,
    Podman,
}

impl Engine {
    pub(crate) const ALL: [Self; 2] = [Self::Docker, Self::Podman];

    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// The engine a run was started with.
    pub(crate) fn named(program: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|engine| engine.program() == program)
    }

    async fn ask(self, args: &[&str], deadline: Duration) -> io::Result<Captured> {
        let argv = Argv::new(self.program(), args);
        capture(argv.engine_command(), deadline).await
    }

    /// Asks the engine whether it runs, and what it can do.
    pub(crate) async fn probe(self) -> Result<Facts> {
        let program = self.program();
        let answer = self
            .ask(&["info", "--format", "{{json .}}"], ANSWER)
            .await
            .map_err(|cause| match cause.kind() {
                io::ErrorKind::NotFound => {
                    Error::not_started(format!("{program} is not installed, or not in PATH"))
                        .hint(format!("install {program}, or choose another --runtime"))
                }
                _ => Error::not_started(format!("{program} info failed")).caused_by(cause),
            })?;
        let stopped = || {
            Error::not_started(format!("the {program} engine does not answer"))
                .hint(format!("start it, and try `{program} info`"))
        };
        if !answer.status.success() {
            return Err(stopped().caused_by(answer.complaint()));
        }
        let facts = match self {
            Self::Docker => Facts::from_docker(&answer.stdout),
            Self::Podman => Facts::from_podman(&answer.stdout),
        };
        facts.context(stopped)
    }

    /// The engine's version, for people.
    pub(crate) async fn version(self) -> Result<String> {
        let format = match self {
            Self::Docker => "{{.Server.Version}} on {{.Server.Os}}/{{.Server.Arch}}",
            Self::Podman => "{{.Client.Version}} on {{.Client.OsArch}}",
        };
        let failed = || Error::infrastructure("its version cannot be read");
        let answer = self.ask(&["version", "--format", format], ANSWER).await;
        Ok(answer.context(failed)?.stdout.trim().to_owned())
    }

    /// The value of one of an image's labels; empty when it has none.
    pub(crate) async fn image_label(self, image: &ImageRef, label: &str) -> Result<String> {
        let (name, format) = (
            image.to_string(),
            format!("{{{{index .Config.Labels {label:?}}}}}"),
        );
        let failed = || Error::infrastructure(format!("the labels of {image} cannot be read"));
        let args = ["image", "inspect", "--format", &format, &name];
        let answer = self.ask(&args, ANSWER).await.context(failed)?;
        Ok(answer.stdout.trim().to_owned())
    }

    /// Makes sure that the image is there; it is never pulled.
    pub(crate) async fn require_image(self, image: &ImageRef) -> Result<()> {
        let (program, name) = (self.program(), image.to_string());
        let answer = self
            .ask(&["image", "inspect", "--format", "{{.Id}}", &name], ANSWER)
            .await
            .context(|| Error::not_started(format!("{program} image inspect failed")))?;
        if answer.status.success() {
            return Ok(());
        }
        let error = Error::not_started(format!("{program} has no image {name}"))
            .caused_by(answer.complaint());
        Err(match name.strip_prefix("drawbridge/") {
            Some(ours) => {
                let target = ours.split(':').next().unwrap_or(ours);
                error.hint(format!("drawbridge build-image {target}"))
            }
            None => error.hint(format!("load it with `{program} load`; it is never pulled")),
        })
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

    /// Kills what is left of a run, and makes sure that nothing is.
    pub(crate) async fn wait_until_gone(self, run: &RunId) -> Result<()> {
        let failed = || {
            let what = format!("cannot make sure that the container of {run} is gone");
            Error::infrastructure(what).hint("run `drawbridge clean` when the engine works again")
        };
        let label = format!("label=drawbridge.run={run}");
        let args = ["ps", "--all", "--quiet", "--no-trunc", "--filter", &label];
        let deadline = tokio::time::Instant::now() + GONE;
        loop {
            let answer = self.ask(&args, ANSWER).await.context(failed)?;
            if !answer.status.success() {
                return Err(failed().caused_by(answer.complaint()));
            }
            let Some(left) = answer.stdout.split_ascii_whitespace().next() else {
                return Ok(());
            };
            if tokio::time::Instant::now() > deadline {
                return Err(failed().caused_by(format!("{left} is still there")));
            }
            // It fails when the engine is removing the container already.
            let _ = self.ask(&["rm", "--force", left], ANSWER).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs of an installation that have a container.
    pub(crate) async fn labelled_runs(self, install: &str) -> Result<Vec<RunId>> {
        let failed = || Error::infrastructure(format!("{} ps failed", self.program()));
        let label = format!("label=drawbridge.install={install}");
        let format = r#"{{.Label "drawbridge.run"}}"#;
        let args = ["ps", "--all", "--filter", &label, "--format", format];
        let answer = self.ask(&args, ANSWER).await.context(failed)?;
        if !answer.status.success() {
            return Err(failed().caused_by(answer.complaint()));
        }
        let names = answer.stdout.split_ascii_whitespace();
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }
}
