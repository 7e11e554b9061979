//! From flags, environment and `drawbridge.toml` to the settings of a run.
//!
//! A flag wins over the environment, which wins over the file. What nobody
//! knows is an error, so that a misspelt limit is not a missing one.

mod args;
pub(crate) mod credentials;
pub(crate) mod edit;
mod key;
mod layers;
mod resolve;
mod serve;
mod value;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use drawbridge_shared::protocol::AgentKind;

use crate::error::{Context, Error, Result};
use crate::mounts::MountRequest;
use crate::spec::{ByteSize, Cpus, ImageRef, Protection, User, UserChoice};

use value::{
    parse, parse_file_size, parse_model, parse_named, parse_on_request, parse_pids,
    parse_time_limit, parse_waived,
};

pub(crate) use args::SettingArgs;
pub(crate) use key::{Key, ServeKey};
pub(crate) use layers::{Layers, Shown, Source, TypedSettings};
pub(crate) use resolve::{find_file, observe, resolve, settle};
pub(crate) use serve::{ServeSettings, TypedServe};
pub(crate) use value::{NetworkChoice, RuntimeChoice, SandboxChoice};

/// The settings of a run.
#[derive(Clone, Debug)]
pub(crate) struct RunSettings {
    pub(crate) runtime: RuntimeChoice,
    pub(crate) agent: AgentKind,
    pub(crate) image: ImageRef,
    pub(crate) network: NetworkChoice,
    pub(crate) model: Option<String>,
    pub(crate) memory: ByteSize,
    pub(crate) cpus: Cpus,
    pub(crate) pids: NonZeroU32,
    pub(crate) tmp_size: ByteSize,
    pub(crate) tmp_exec: bool,
    pub(crate) sandbox: SandboxChoice,
    /// The run is stopped when it has taken this long.
    pub(crate) timeout: Option<Duration>,
    /// The run is ended when neither side said anything for this long.
    pub(crate) idle_timeout: Option<Duration>,
    /// Protections that an engine without them may be used without.
    pub(crate) waive: Vec<Protection>,
    /// Whether files that are known to hold secrets are covered.
    pub(crate) mask_secrets: bool,
    /// The largest file an agent may write.
    pub(crate) file_size: Option<ByteSize>,
    /// Who the agent is in a container.
    pub(crate) user: UserChoice,
    /// What it sees of this machine beside its own folders.
    pub(crate) mounts: Vec<MountRequest>,
    /// Program that answers what the agent asks for.
    pub(crate) on_request: Option<PathBuf>,
}

/// Settings that this program gives itself.
pub(crate) struct Fixed<'a>(pub(crate) &'a [(Key, &'a str)]);

impl TypedSettings for Fixed<'_> {
    fn typed(&self, key: Key) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| *value)
    }
}

impl RunSettings {
    /// The given values and otherwise the defaults, whatever the caller's
    /// configuration says.
    pub(crate) fn fixed(values: &[(Key, &str)]) -> Result<Self> {
        let (settings, _) = Self::resolve(&Layers {
            flags: &Fixed(values),
            environment: &|_| None,
            file: None,
        })?;
        Ok(settings)
    }

    /// Settles all settings, and tells where each comes from.
    pub(crate) fn resolve(layers: &Layers<'_>) -> Result<(Self, Vec<Shown>)> {
        layers.refuse_unknown_keys()?;
        // A wrong value for another agent is found now, not when that one runs.
        for name in layers.file.iter().flat_map(|file| file.agents.keys()) {
            let other = [(Key::Agent, name.as_str())];
            let file = Layers {
                flags: &Fixed(&other),
                environment: &|_| None,
                ..*layers
            };
            Self::settle(&file)?;
        }
        Self::settle(layers)
    }

    fn settle(layers: &Layers<'_>) -> Result<(Self, Vec<Shown>)> {
        let mut shown = Vec::new();
        let agent = layers.agent(AgentKind::Claude)?;
        let mut get = |key, default: &str| layers.get(key, default, agent, &mut shown);
        let runtime = get(Key::Runtime, "auto")?.read(parse_named)?;
        let agent = get(Key::Agent, AgentKind::Claude.name())?.read(parse_named)?;
        let settings = Self {
            runtime,
            agent,
            image: get(Key::Image, &default_image(agent))?.read(parse)?,
            network: get(Key::Network, "sealed")?.read(parse_named)?,
            model: get(Key::Model, "")?.read(parse_model)?,
            memory: get(Key::Memory, "4g")?.read(parse)?,
            cpus: get(Key::Cpus, "2")?.read(parse)?,
            pids: get(Key::Pids, "512")?.read(parse_pids)?,
            tmp_size: get(Key::TmpSize, "512m")?.read(parse)?,
            tmp_exec: get(Key::TmpExec, "true")?.read(parse_named)?,
            sandbox: get(Key::Sandbox, "landlock")?.read(parse_named)?,
            timeout: get(Key::Timeout, "2h")?.read(parse_time_limit)?,
            idle_timeout: get(Key::IdleTimeout, "30m")?.read(parse_time_limit)?,
            waive: get(Key::Waive, "none")?.read(parse_waived)?,
            mask_secrets: get(Key::MaskSecrets, "true")?.read(parse_named)?,
            file_size: get(Key::FileSize, "16g")?.read(parse_file_size)?,
            user: get(Key::User, "caller")?.read(parse)?,
            mounts: Vec::new(),
            on_request: get(Key::OnRequest, "none")?.read(parse_on_request)?,
        };
        Ok((settings, shown))
    }

    /// Who the agent is in a container.
    pub(crate) fn agent_user(&self) -> Result<User> {
        User::of_agent(self.user)
            .context(|| Error::not_started("nobody can be the agent").hint("see --user"))
    }
}

/// The image that `build-image` makes for an agent. A program of the user's own
/// runs in the small one, which has a shell.
pub(crate) fn default_image(agent: AgentKind) -> String {
    let name = match agent {
        AgentKind::Claude => "claude",
        AgentKind::Codex => "codex",
        AgentKind::Opencode => "opencode",
        AgentKind::Gemini => "gemini",
        AgentKind::Builtin | AgentKind::Acp | AgentKind::Command => "builtin",
    };
    format!("drawbridge/{name}:{}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests;
