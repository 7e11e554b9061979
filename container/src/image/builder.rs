//! The engine's command line, as far as building images needs it.

use std::ffi::OsString;
use std::time::Duration;

use super::stage::Context;
use super::tool;
use crate::engine::Engine;
use crate::error::{Context as _, Error, Result};
use crate::process::{Argv, Captured, capture};
use crate::spec::ImageRef;
use crate::terminal::progress::Progress;

/// A question to the engine is answered at once, or the engine hangs.
const ANSWER: Duration = Duration::from_secs(30);
/// Copying 400 MB into an image takes half a minute on a slow disk.
const BUILD: Duration = Duration::from_secs(15 * 60);

/// An engine that answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Builder {
    engine: Engine,
    /// Its containers are in a virtual machine, which cannot share a socket.
    is_in_vm: bool,
}

impl Builder {
    /// The engine asked for, or the first that answers.
    pub(super) async fn choose(asked: Option<Engine>) -> Result<Self> {
        let candidates = asked.map_or_else(|| Engine::ALL.to_vec(), |engine| vec![engine]);
        let mut complaints = Vec::new();
        for engine in candidates {
            match engine.probe().await {
                Ok(facts) => {
                    let is_in_vm = facts.is_in_vm;
                    return Ok(Self { engine, is_in_vm });
                }
                Err(error) => complaints.push(error.one_line()),
            }
        }
        let complaints = complaints.join("; ");
        Err(
            Error::not_started(format!("no container engine is usable: {complaints}"))
                .hint("install and start Docker or Podman"),
        )
    }

    /// The network on which a test turn can be run.
    pub(super) const fn test_network(self) -> &'static str {
        if self.is_in_vm { "bridge" } else { "sealed" }
    }

    /// The engine.
    pub(super) const fn engine(self) -> Engine {
        self.engine
    }

    /// Name of the engine's program.
    pub(super) const fn program(self) -> &'static str {
        self.engine.program()
    }

    async fn ask(self, args: &[&str]) -> Result<Captured> {
        let argv = Argv::new(self.program(), args.iter().copied());
        capture(argv.engine_command(), ANSWER)
            .await
            .context(|| Error::infrastructure(format!("{} does not answer", self.program())))
    }

    /// Runs a long command of the engine and shows what it does.
    async fn work<I: Into<OsString>>(
        self,
        args: impl IntoIterator<Item = I>,
        progress: &Progress,
    ) -> Result<()> {
        let argv = Argv::new(self.program(), args);
        let mut command = argv.tied().engine_command();
        // BuildKit's own display is for terminals; ours shows plain lines.
        command.env("BUILDKIT_PROGRESS", "plain");
        tool::run(self.program(), command, BUILD, progress).await
    }

    /// Whether the image is there.
    pub(super) async fn has_image(self, image: &str) -> Result<bool> {
        let args = ["image", "inspect", image];
        Ok(self.ask(&args).await?.status.success())
    }

    /// The id of an image that we have built; none of somebody else's.
    pub(super) async fn id_of_ours(self, image: &str) -> Result<Option<String>> {
        if self.engine == Engine::Apple {
            return Ok(None);
        }
        let format = r#"{{.Id}} {{index .Config.Labels "drawbridge.version"}}"#;
        let answer = self
            .ask(&["image", "inspect", "--format", format, image])
            .await?;
        let (id, version) = answer.stdout.trim().split_once(' ').unwrap_or_default();
        let is_ours = answer.status.success() && !version.is_empty() && version != "<no value>";
        Ok(is_ours.then(|| id.to_owned()))
    }

    /// Removes an image that lost its name to a newer one. One that has another
    /// name, or a container, stays.
    pub(super) async fn remove_replaced(self, old: &str, name: &str) -> Result<()> {
        if self.id_of_ours(name).await?.as_deref() != Some(old) {
            let format = "{{len .RepoTags}}";
            let tags = self
                .ask(&["image", "inspect", "--format", format, old])
                .await?;
            if tags.stdout.trim() == "0" {
                self.ask(&["image", "rm", old]).await?;
            }
        }
        Ok(())
    }

    /// The image's size, for people; unknown to Apple's program.
    pub(super) async fn image_size(self, image: &ImageRef) -> Result<Option<String>> {
        let image = image.to_string();
        let args = ["image", "inspect", "--format", "{{.Size}}", &image];
        let answer = self.ask(&args).await?;
        let bytes: Option<u64> = answer.stdout.trim().parse().ok();
        Ok(bytes.map(|bytes| format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)))
    }

    /// Whether a shell script succeeds in an image, without a network.
    pub(super) async fn succeeds_in(self, image: &str, script: &str) -> Result<bool> {
        let shell = ["run", "--rm", "--network=none", "--entrypoint=/bin/sh"];
        let args = [&shell[..], &[image, "-c", script]].concat();
        Ok(self.ask(&args).await?.status.success())
    }

    /// Downloads an image.
    pub(super) async fn pull(self, image: &str, progress: &Progress) -> Result<()> {
        match self.engine {
            Engine::Docker | Engine::Podman => self.work(["pull", image], progress).await,
            Engine::Apple => self.work(["image", "pull", image], progress).await,
        }
    }

    /// The flag that keeps a build off the network. Apple's program has none,
    /// and the Dockerfile of the images does not ask for the network either.
    pub(super) const fn without_network(self) -> &'static [&'static str] {
        match self.engine {
            Engine::Docker | Engine::Podman => &["--network=none"],
            Engine::Apple => &[],
        }
    }

    /// Builds from a staged context, with the arguments of its Dockerfile.
    pub(super) async fn build(
        self,
        context: &Context,
        options: &[&str],
        arguments: &[(&str, &str)],
        progress: &Progress,
    ) -> Result<()> {
        let mut args: Vec<OsString> = vec!["build".into()];
        args.extend(options.iter().map(OsString::from));
        for (name, value) in arguments {
            args.extend(["--build-arg".into(), format!("{name}={value}").into()]);
        }
        args.push(context.path().into());
        self.work(args, progress).await
    }
}
