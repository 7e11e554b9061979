//! Checks of this machine: what a run needs of it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use drawbridge_proxy::bind::{HostFacts, choose_address};
use drawbridge_proxy::config::ProxyConfig;
use tokio::net::TcpListener;

use super::check::{Check, Place, Status};
use crate::config::{NetworkChoice, RunSettings, RuntimeChoice, SandboxChoice};
use crate::engine::sandbox;
use crate::engine::{Engine, Runtime};
use crate::error::{Context, Error, Result};
use crate::image::versions::Versions;
use crate::state::State;

/// Looks at everything, and returns the runtime when one can be used.
pub(crate) async fn inspect(
    settings: &RunSettings,
    state: &State,
    credential: &Result<ProxyConfig>,
) -> (Vec<Check>, Option<Runtime>) {
    let mut checks = vec![Check::pass(
        "state folder",
        state.root().display().to_string(),
    )];
    let runtime = Runtime::choose(settings.runtime, &settings.image).await;
    let runtime = runtime.and_then(|runtime| {
        runtime.require(settings)?;
        Ok(runtime)
    });
    match &runtime {
        Ok(Runtime::Container(engine, _)) => {
            checks.push(Check::pass("engine", engine_version(*engine).await));
            checks.push(image(*engine, settings).await);
        }
        Ok(Runtime::Host) => checks.push(host(settings)),
        Err(error) => checks.push(Check::fail(subject(settings.runtime), error)),
    }
    checks.push(match credential {
        Ok(config) => Check::pass("credential", describe(config)),
        Err(error) => Check::fail("credential", error),
    });
    if let Ok(runtime) = &runtime {
        checks.push(bind_address(runtime, settings.network));
    }
    checks.extend([control_groups(), landlock()]);
    (checks, runtime.ok())
}

/// A port on an address of this machine that agents could try to reach.
pub(crate) async fn canary(runtime: &Runtime, settings: &RunSettings) -> Result<TcpListener> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let address = match (runtime, settings.network) {
        (Runtime::Container(..), _) => {
            choose_address(None, &HostFacts::observe(), false).unwrap_or(loopback)
        }
        (Runtime::Host, _) => loopback,
    };
    TcpListener::bind((address, 0))
        .await
        .context(|| Error::infrastructure(format!("cannot open a port on {address}")))
}

/// The firewall that is in force here, when it is one that we know.
pub(crate) fn firewall() -> Option<&'static str> {
    let ufw = fs::read_to_string("/etc/ufw/ufw.conf").unwrap_or_default();
    if ufw.lines().any(|line| line.trim() == "ENABLED=yes") {
        return Some("ufw");
    }
    let firewalld = Path::new("/run/firewalld.pid").exists();
    firewalld.then_some("firewalld")
}

/// Whether the kernel can enforce limits, and by which interface.
fn control_groups() -> Check {
    const NAME: &str = "control groups";
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return Check::pass(NAME, "version 2");
    }
    if Path::new("/sys/fs/cgroup/memory").exists() {
        return Check::pass(NAME, "version 1");
    }
    Check::new(Place::Outside, NAME, Status::Note, "not visible here")
}

/// Only the host runtime needs it.
fn landlock() -> Check {
    const NAME: &str = "Landlock";
    match sandbox::require() {
        Ok(()) => Check::pass(NAME, "there, for --runtime host"),
        Err(error) => Check::new(Place::Outside, NAME, Status::Note, error.one_line()),
    }
}

const fn subject(runtime: RuntimeChoice) -> &'static str {
    match runtime {
        RuntimeChoice::Host => "host",
        _ => "engine and image",
    }
}

async fn engine_version(engine: Engine) -> String {
    let version = engine
        .version()
        .await
        .unwrap_or_else(|error| error.one_line());
    format!("{} {version}", engine.program())
}

/// The versions that the image's labels tell, held against ours.
async fn image(engine: Engine, settings: &RunSettings) -> Check {
    const NAME: &str = "image";
    let image = &settings.image;
    let label = async |name| engine.image_label(image, name).await.unwrap_or_default();
    let (built_by, agent) = (
        label("drawbridge.version").await,
        label("drawbridge.agent").await,
    );
    if built_by.is_empty() {
        return Check::new(
            Place::Outside,
            NAME,
            Status::Note,
            format!("{image}, not built by drawbridge"),
        );
    }
    let agent_version = label("drawbridge.agent-version").await;
    let detail = format!("{image}: {agent} {agent_version}")
        .trim_end()
        .to_owned();
    let rebuild = format!("drawbridge build-image {agent}");
    let ours = env!("CARGO_PKG_VERSION");
    if built_by != ours {
        let error = Error::not_started(format!(
            "{image} was built by drawbridge {built_by}, this is {ours}"
        ));
        return Check::fail(NAME, &error.hint(rebuild));
    }
    let pinned = Versions::pinned()
        .ok()
        .and_then(|versions| versions.of(&agent));
    if let Some(pinned) = pinned.filter(|pinned| *pinned != agent_version) {
        let detail = format!("{detail}; this drawbridge knows {pinned}");
        return Check::new(Place::Outside, NAME, Status::Note, detail).hint(rebuild);
    }
    Check::pass(NAME, detail)
}

fn host(settings: &RunSettings) -> Check {
    let detail = match settings.sandbox {
        SandboxChoice::Landlock => "no container; Landlock limits writing and TCP",
        SandboxChoice::Off => "NONE: the agent runs on this machine as you",
    };
    Check::new(Place::Outside, "isolation", Status::Note, detail)
        .hint("choose --runtime docker or podman for a sealed container")
}

fn describe(config: &ProxyConfig) -> String {
    let routes = config.routes.iter();
    let names: Vec<_> = routes.map(|route| route.name.as_str()).collect();
    let names = names.join(", ");
    if config.has_route("anthropic") {
        return format!("present for {names}, {} mode", config.auth_mode().name());
    }
    format!("present for {names}")
}

/// Where the proxy of a run listens; whether a container gets through to it is
/// found out inside.
fn bind_address(runtime: &Runtime, network: NetworkChoice) -> Check {
    let place = match (runtime, network) {
        (Runtime::Container(..), NetworkChoice::Sealed) => "a socket that the container gets",
        (Runtime::Container(_, facts), _) if facts.is_in_vm => {
            "127.0.0.1, which the engine's virtual machine leads to"
        }
        (Runtime::Container(..), _) => "this machine's address in the run's own network",
        (Runtime::Host, _) => "127.0.0.1",
    };
    Check::pass("bind address", place)
}
