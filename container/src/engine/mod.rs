//! Container engines and the host: where agents run.
//!
//! The argument lists are pure functions of a [`RunSpec`]; what an engine can do
//! is looked up once, before anything is started.

mod apple;
mod docker;
mod facts;
mod network;
pub(crate) mod orphans;
mod program;
pub(crate) mod sandbox;

use std::ffi::OsString;

use drawbridge_shared::protocol::AgentKind;
use serde::Serialize;

use crate::config::{NetworkChoice, RunSettings, RuntimeChoice, SandboxChoice};
use crate::error::{Error, Result};
use crate::spec::{ImageRef, MountSummary, Network, Protection, RunSpec, User};

pub(crate) use facts::Facts;
pub(crate) use network::{BRIDGE_PREFIX, RunNetwork};
pub(crate) use program::Engine;

/// Arguments that start a run with an engine's program.
pub(crate) fn run_args(engine: Engine, facts: &Facts, spec: &RunSpec) -> Vec<OsString> {
    match engine {
        Engine::Docker | Engine::Podman => docker::run_args(engine, facts, spec),
        Engine::Apple => apple::run_args(spec),
    }
}

/// The runtime of one run, ready to start.
#[derive(Clone, Debug)]
pub(crate) enum Runtime {
    /// A container engine.
    Container(Engine, Facts),
    /// This machine, without a container.
    Host,
}

impl Runtime {
    /// Settles the choice, and makes sure that the engine runs and has the
    /// image. The host is never chosen on its own accord.
    pub(crate) async fn choose(choice: RuntimeChoice, image: &ImageRef) -> Result<Self> {
        match choice {
            RuntimeChoice::Host => Ok(Self::Host),
            RuntimeChoice::Docker => Self::container(Engine::Docker, image).await,
            RuntimeChoice::Podman => Self::container(Engine::Podman, image).await,
            RuntimeChoice::Apple => Self::container(Engine::Apple, image).await,
            RuntimeChoice::Auto => Self::first_engine(image).await,
        }
    }

    async fn first_engine(image: &ImageRef) -> Result<Self> {
        let mut complaints = Vec::new();
        for engine in Engine::ALL {
            match engine.probe().await {
                Ok(facts) => {
                    engine.require_image(image).await?;
                    return Ok(Self::Container(engine, facts));
                }
                Err(error) => complaints.push(error.one_line()),
            }
        }
        let complaints = complaints.join("; ");
        Err(
            Error::not_started(format!("no container engine is usable: {complaints}")).hint(
                "install and start Docker or Podman, or choose --runtime host, \
                 which does not isolate the agent from this machine",
            ),
        )
    }

    async fn container(engine: Engine, image: &ImageRef) -> Result<Self> {
        let (facts, image) = tokio::join!(engine.probe(), engine.require_image(image));
        let facts = facts?;
        image?;
        Ok(Self::Container(engine, facts))
    }

    /// Refuses what this runtime cannot give, rather than to run with less.
    pub(crate) fn require(&self, settings: &RunSettings) -> Result<()> {
        match (self, settings.sandbox) {
            (Self::Container(engine, facts), _) => require_container(*engine, facts, settings),
            (Self::Host, SandboxChoice::Landlock) => {
                sandbox::require()?;
                require_no_port(settings.agent)
            }
            (Self::Host, SandboxChoice::Off) => Ok(()),
        }
    }
}

/// Landlock leaves an agent no port of its own, not even on loopback, where
/// every other process of this machine would reach it.
fn require_no_port(agent: AgentKind) -> Result<()> {
    if agent != AgentKind::Opencode {
        return Ok(());
    }
    Err(
        Error::not_started("opencode talks to itself through a TCP port, which Landlock forbids")
            .hint("use a container, or --no-sandbox, with which nothing is forbidden"),
    )
}

/// Refuses an engine that lacks what a run needs.
fn require_container(engine: Engine, facts: &Facts, settings: &RunSettings) -> Result<()> {
    let network = settings.network;
    let program = engine.program();
    let mut lacks = facts.lacks.iter();
    if let Some(missing) = lacks.find(|lack| !settings.waive.contains(lack)) {
        let what = format!("the {program} engine cannot enforce {missing}");
        return Err(Error::not_started(what).hint(format!(
            "`{program} info` may tell why; --waive {missing} runs without it"
        )));
    }
    if facts.is_in_vm && network == NetworkChoice::Sealed {
        let what = format!("the {program} engine runs in a virtual machine");
        return Err(Error::not_started(what)
            .caused_by("a socket cannot be mounted there")
            .hint("choose --network bridge, which is open to the internet"));
    }
    if facts.is_rootless && engine == Engine::Docker {
        return Err(Error::not_started("rootless Docker is not supported")
            .caused_by("the agent would be root inside, or could not write your files")
            .hint("use podman, which maps your own user, or a Docker engine with root"));
    }
    if network == NetworkChoice::Bridge && engine == Engine::Podman {
        return Err(Error::not_started(
            "podman is supported with --network sealed only",
        ));
    }
    Ok(())
}

/// The isolation of an agent, as it really is for this run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Isolation {
    /// Whether a container is around the agent.
    pub(crate) isolated: bool,
    /// `sealed`, `bridge` or `host`.
    pub(crate) network: &'static str,
    /// User and group of the agent; of the launcher on the host.
    pub(crate) user: String,
    /// The sandbox of an agent on the host; absent in a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sandbox: Option<&'static str>,
    /// Restrictions of the container; absent on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) container: Option<ContainerIsolation>,
    /// Mounts in addition to the agent's own folders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mounts: Vec<MountSummary>,
    /// The number of files and folders that are masked because they hold secrets.
    pub(crate) masked: usize,
}

/// Restrictions and limits of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerIsolation {
    pub(crate) read_only_root: bool,
    /// Capabilities the agent has.
    pub(crate) capabilities: [&'static str; 0],
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp: &'static str,
    /// Limits; null where the engine enforces none.
    pub(crate) memory: Option<String>,
    pub(crate) cpus: Option<String>,
    pub(crate) pids: Option<u32>,
    /// The largest file it may write; null when there is no limit.
    pub(crate) file_size: Option<String>,
    /// Protections that the engine lacks and the settings waive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) waived: Vec<Protection>,
    pub(crate) tmp_size: String,
    pub(crate) tmp_exec: bool,
}

impl Isolation {
    /// The isolation that [`run_args`] asks the engine for.
    pub(crate) fn of_container(spec: &RunSpec, facts: &Facts) -> Self {
        let has = |protection| !facts.lacks.contains(&protection);
        Self {
            isolated: true,
            sandbox: None,
            network: match spec.network {
                Network::Sealed => "sealed",
                Network::Bridge { .. } => "bridge",
            },
            user: spec.user.to_string(),
            container: Some(ContainerIsolation {
                read_only_root: true,
                capabilities: [],
                no_new_privileges: has(Protection::NoNewPrivileges),
                seccomp: if has(Protection::Seccomp) {
                    "default"
                } else {
                    "none"
                },
                memory: has(Protection::Memory).then(|| spec.limits.memory.to_string()),
                cpus: has(Protection::Cpus).then(|| spec.limits.cpus.to_string()),
                pids: has(Protection::Pids).then(|| spec.limits.pids.get()),
                file_size: spec.limits.file_size.map(|size| size.to_string()),
                waived: facts.lacks.clone(),
                tmp_size: spec.scratch.size.to_string(),
                tmp_exec: spec.scratch.exec,
            }),
            mounts: Vec::new(),
            masked: 0,
        }
    }

    /// The isolation of an agent on this machine.
    pub(crate) fn of_host(sandbox: SandboxChoice) -> Self {
        Self {
            isolated: false,
            sandbox: match sandbox {
                SandboxChoice::Landlock => Some("landlock"),
                SandboxChoice::Off => None,
            },
            network: "host",
            user: User::of_launcher().to_string(),
            container: None,
            mounts: Vec::new(),
            masked: 0,
        }
    }
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(container) = &self.container else {
            f.write_str("NOT isolated by a container: the agent runs on this machine as you")?;
            return f.write_str(match self.sandbox {
                Some(_) => {
                    "; Landlock lets it write to its own folders only, connect over TCP to the \
                     proxy only, and hides files that are known to hold secrets"
                }
                None => ", and nothing keeps it from your files and the network",
            });
        };
        let (network, user) = (self.network, &self.user);
        write!(
            f,
            "{network} network, user {user}, read-only root, no capabilities"
        )?;
        if let Some(memory) = &container.memory {
            write!(f, ", {memory} memory")?;
        }
        if let Some(cpus) = &container.cpus {
            write!(f, ", {cpus} cpus")?;
        }
        if let Some(pids) = container.pids {
            write!(f, ", {pids} pids")?;
        }
        match self.masked {
            0 => {}
            1 => f.write_str(", 1 secret file masked")?,
            many => write!(f, ", {many} secret files masked")?,
        }
        let waived: Vec<_> = container.waived.iter().map(ToString::to_string).collect();
        if waived.is_empty() {
            return Ok(());
        }
        write!(f, "; WITHOUT {}, which is waived", waived.join(" and "))
    }
}

#[cfg(test)]
mod tests;
