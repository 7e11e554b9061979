//! `drawbridge build-image`: stages the static runner and the agent, builds an
//! image from them without a network, and proves it with a real turn.

mod base;
mod builder;
mod elf;
mod package;
mod programs;
mod smoke;
mod stage;
pub(crate) mod tool;
pub(crate) mod versions;

use std::path::PathBuf;

use drawbridge_shared::exit::Exit;
use drawbridge_shared::protocol::AgentKind;

use crate::config::default_image;
use crate::engine::Engine;
use crate::engine::orphans;
use crate::error::{Error, Result};
use crate::process::block_on;
use crate::spec::ImageRef;
use crate::state::State;
use crate::terminal::output;
use crate::terminal::progress::Progress;

use builder::Builder;
use package::Package;
use stage::Context;
use versions::Versions;

/// The images that can be built; each is a target of the Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ImageKind {
    /// The runner with its own small agent, and busybox.
    Builtin,
    /// Claude Code on a Debian base.
    Claude,
    /// Codex on a Debian base.
    Codex,
    /// opencode on a Debian base.
    Opencode,
}

impl ImageKind {
    /// The agent that the image runs.
    pub(crate) const fn agent(self) -> AgentKind {
        match self {
            Self::Builtin => AgentKind::Builtin,
            Self::Claude => AgentKind::Claude,
            Self::Codex => AgentKind::Codex,
            Self::Opencode => AgentKind::Opencode,
        }
    }
}

/// Arguments of `build-image`: what to build, and from what.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildArgs {
    /// The image to build.
    kind: ImageKind,
    /// Engine that builds it; the first that answers when left out.
    #[arg(long, value_name = "docker|podman|apple", value_parser = parse_engine)]
    engine: Option<Engine>,
    /// Name of the image, instead of the one that `run` looks for.
    #[arg(long, value_name = "IMAGE", value_parser = parse_image)]
    tag: Option<ImageRef>,
    /// Base of an agent's image, instead of the pinned one.
    #[arg(long, value_name = "IMAGE", value_parser = parse_image)]
    base: Option<ImageRef>,
    /// A statically linked agent-runner to use as it is.
    #[arg(long, value_name = "PATH")]
    runner: Option<PathBuf>,
    /// The agent's program to use as it is, instead of the pinned npm package's.
    #[arg(long, value_name = "PATH")]
    agent_binary: Option<PathBuf>,
    /// Refuse every step that needs the network.
    #[arg(long)]
    offline: bool,
}

fn parse_image(text: &str) -> Result<ImageRef, String> {
    text.parse().map_err(|rule| format!("not {rule}"))
}

fn parse_engine(text: &str) -> Result<Engine, &'static str> {
    match text {
        "docker" => Ok(Engine::Docker),
        "podman" => Ok(Engine::Podman),
        "apple" => Ok(Engine::Apple),
        _ => Err("accepted is one of docker, podman, apple"),
    }
}

/// `drawbridge build-image`.
pub(crate) fn command(args: &BuildArgs) -> Result<Exit> {
    block_on(async {
        let state = State::open()?;
        orphans::clean_up(&state).await?;
        build(args, &state).await?;
        Ok(Exit::Success)
    })
}

/// Builds the image, tests it and says what to do next.
async fn build(request: &BuildArgs, state: &State) -> Result<()> {
    request.check()?;
    let versions = Versions::pinned()?;
    let progress = Progress::new();
    let builder = Builder::choose(request.engine).await?;
    let tag = match &request.tag {
        Some(tag) => tag.clone(),
        None => default_image(request.kind.agent())
            .parse()
            .map_err(Error::infrastructure)?,
    };

    let context = Context::create(state)?;
    programs::stage_runner(request, &context, &builder, &versions, &progress).await?;
    let package = Package::of(request.kind, &versions);
    let base = if let Some(package) = &package {
        programs::stage_agent(request, package, &context, state, &progress).await?;
        let asked = request.base.as_ref().map(ToString::to_string);
        let base = asked.unwrap_or_else(|| versions.base.clone());
        base::with_tools(&builder, &base, request.offline, &progress).await?
    } else {
        programs::stage_busybox(&context, &progress).await?;
        // The classic builder wants every base named, used or not.
        versions.base.clone()
    };

    progress.step(&format!("building {tag} without a network"));
    let (name, agent) = (tag.to_string(), request.kind.agent().name());
    let options = [
        builder.without_network(),
        &["--target", agent, "--tag", &name],
    ]
    .concat();
    let mut arguments = vec![
        ("BASE", base.as_str()),
        ("RUST", &versions.rust),
        ("VERSION", env!("CARGO_PKG_VERSION")),
    ];
    arguments.extend(
        package
            .as_ref()
            .map(|package| ("AGENT_VERSION", package.version.as_str())),
    );
    let replaced = builder.id_of_ours(&name).await?;
    builder
        .build(&context, &options, &arguments, &progress)
        .await?;
    progress.step("testing it");
    let proof = smoke::test(&builder, request.kind, &tag, state).await?;
    if let Some(old) = replaced {
        builder.remove_replaced(&old, &name).await?;
    }
    drop(progress);
    let size = builder.image_size(&tag).await?;
    let size = size.map_or_else(String::new, |size| format!(", {size}"));
    output::note(&format!("built {tag}{size}; {proof}"));
    output::note(&format!(
        "try it: drawbridge run --agent {agent} --prompt \"hello\""
    ));
    Ok(())
}

impl BuildArgs {
    /// Options that say nothing about this image are mistakes.
    fn check(&self) -> Result<()> {
        if self.kind != ImageKind::Builtin {
            return Ok(());
        }
        let stray = [
            ("--base", self.base.is_some()),
            ("--agent-binary", self.agent_binary.is_some()),
        ];
        match stray.iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((flag, _)) => Err(Error::usage(format!(
                "{flag} has no meaning for the builtin image"
            ))
            .hint("it is made of the runner and busybox only; leave the flag out")),
        }
    }
}
