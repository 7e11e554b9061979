//! Settings of a run: `[run]`, `[agent.NAME]`, variables, and flags.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use drawbridge_settings::Document;
use drawbridge_shared::protocol::AgentKind;

use super::flags::FlagValues;
use super::layers::{Layer, Layers, RUN, SettingRow, agent_table};
use super::serve::ServeKey;
use super::setting::{Default, Flag, Scope, Setting, SettingKey, settings};
use super::value::{
    NetworkChoice, RuntimeChoice, SandboxChoice, parse, parse_agent, parse_bool, parse_choice,
    parse_file_size, parse_model, parse_on_request, parse_pids, parse_time_limit, parse_waived,
};
use crate::error::{Context, Error, Result};
use crate::mounts::MountRequest;
use crate::spec::{ByteSize, Cpus, ImageRef, Protection, User, UserChoice};

/// Scopes and flag of most settings.
const ROW: Setting = Setting {
    name: "",
    help: "",
    value: "",
    default: Default::Unset,
    flag: Flag::Value,
    scopes: &[
        Scope::Variable,
        Scope::Table,
        Scope::AgentTable,
        Scope::Submission,
    ],
};

settings! {
    /// Key of a setting of a run.
    enum Key = "";
    /// Settings of a run.
    struct RunSettings;

    Runtime => runtime: RuntimeChoice = one(parse_choice), Setting {
        name: "runtime",
        help: "Where the agent runs. `auto` picks an engine, and never `host`",
        value: "auto|docker|podman|apple|host",
        default: Default::Text("auto"),
        ..ROW
    };
    Agent => agent: AgentKind = one(parse_agent), Setting {
        name: "agent",
        help: "Agent to drive",
        value: "claude|builtin|codex|opencode|gemini|acp|command",
        default: Default::Text("claude"),
        scopes: &[Scope::Variable, Scope::Table, Scope::Submission],
        ..ROW
    };
    Image => image: ImageRef = one(parse), Setting {
        name: "image",
        help: "Image to start, instead of the one of the agent",
        value: "IMAGE",
        default: Default::OfAgent(default_image),
        ..ROW
    };
    Network => network: NetworkChoice = one(parse_choice), Setting {
        name: "network",
        help: "What the container reaches: only the proxy's socket, or the internet",
        value: "sealed|bridge",
        default: Default::Text("sealed"),
        ..ROW
    };
    Model => model: Option<String> = one(parse_model), Setting {
        name: "model",
        help: "Model to ask for",
        value: "MODEL",
        default: Default::Text(""),
        ..ROW
    };
    Memory => memory: ByteSize = one(parse), Setting {
        name: "memory",
        help: "Most memory and swap",
        value: "SIZE",
        default: Default::Text("4g"),
        ..ROW
    };
    Cpus => cpus: Cpus = one(parse), Setting {
        name: "cpus",
        help: "Most processors",
        value: "NUMBER",
        default: Default::Text("2"),
        ..ROW
    };
    Pids => pids: NonZeroU32 = one(parse_pids), Setting {
        name: "pids",
        help: "Most processes and threads",
        value: "NUMBER",
        default: Default::Text("512"),
        ..ROW
    };
    TmpSize => tmp_size: ByteSize = one(parse), Setting {
        name: "tmp-size",
        help: "Size of the container's /tmp",
        value: "SIZE",
        default: Default::Text("512m"),
        ..ROW
    };
    TmpExec => tmp_exec: bool = one(parse_bool), Setting {
        name: "tmp-exec",
        help: "Whether programs in /tmp can be started",
        value: "true|false",
        default: Default::Text("true"),
        ..ROW
    };
    Sandbox => sandbox: SandboxChoice = one(parse_choice), Setting {
        name: "sandbox",
        help: "Run without Landlock on the host, with access to all your files",
        flag: Flag::Switch("no-sandbox", "off"),
        default: Default::Text("landlock"),
        ..ROW
    };
    // The run is stopped when it has taken this long.
    Timeout => timeout: Option<Duration> = one(parse_time_limit), Setting {
        name: "timeout",
        help: "Longest run, or `none`",
        value: "TIME",
        default: Default::Text("2h"),
        ..ROW
    };
    IdleTimeout => idle_timeout: Option<Duration> = one(parse_time_limit), Setting {
        name: "idle-timeout",
        help: "Longest time without a sign of life of the agent or of you, or `none`",
        value: "TIME",
        default: Default::Text("30m"),
        ..ROW
    };
    Waive => waive: Vec<Protection> = one(parse_waived), Setting {
        name: "waive",
        help: "Protections to do without where the engine lacks them, such as \
               `seccomp,no-new-privileges` for Apple's `container`",
        value: "LIST|none",
        default: Default::Text("none"),
        ..ROW
    };
    MaskSecrets => mask_secrets: bool = one(parse_bool), Setting {
        name: "mask-secrets",
        help: "Cover files that are known to hold secrets, such as `.env`, in the workspace and \
               in mounted folders",
        value: "true|false",
        default: Default::Text("true"),
        ..ROW
    };
    FileSize => file_size: Option<ByteSize> = one(parse_file_size), Setting {
        name: "file-size",
        help: "Largest file the agent may write, or `none`",
        value: "SIZE",
        default: Default::Text("16g"),
        ..ROW
    };
    User => user: UserChoice = one(parse), Setting {
        name: "user",
        help: "Who the agent is in its container",
        value: "caller|UID:GID",
        default: Default::Text("caller"),
        ..ROW
    };
    // The program that answers agents is the choice of whoever starts `run` or
    // `serve`, not of a submission.
    OnRequest => on_request: Option<PathBuf> = one(parse_on_request), Setting {
        name: "on-request",
        help: "Program that answers what the agent asks for: one request as JSON on its \
               standard input, the answer as JSON on its standard output",
        value: "PROGRAM|none",
        default: Default::Text("none"),
        flag: Flag::Elsewhere,
        scopes: &[Scope::Variable, Scope::Table, Scope::AgentTable],
    };
    // A submission has `agentArgs`.
    AgentArg => agent_args: Vec<String> = list(|text| Ok(text.to_owned())), Setting {
        name: "agent-arg",
        help: "Argument to add to the agent's own command line; may be repeated",
        value: "TEXT",
        flag: Flag::RepeatedArgument,
        scopes: &[],
        ..ROW
    };
    // The file has `[[mounts]]`, and a submission `mounts`.
    Mount => mounts: Vec<MountRequest> = list(MountRequest::from_flag), Setting {
        name: "mount",
        help: "Show a folder or file of this machine to the agent, at `/workspace/extra/NAME`, \
               or with `same-path` where it is here; may be repeated. The allowlist has to name it",
        value: "HOST[:NAME][:same-path][:rw]",
        flag: Flag::Repeated,
        scopes: &[],
        ..ROW
    };
}

/// Sources of the settings of a run, the strongest first.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) flags: &'a FlagValues<Key>,
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
    pub(super) file: Option<&'a Document>,
}

impl<'a> Sources<'a> {
    /// The layers of a run of this agent; without one, of a run of any.
    fn layers(&self, agent: Option<AgentKind>) -> Layers<'a, Key> {
        let mut layers = vec![
            Layer::Flags(self.flags),
            Layer::Environment(self.environment),
        ];
        if let Some(file) = self.file {
            let mut add = |name: String, values: Option<&'a toml::Table>| {
                layers.extend(values.map(|values| Layer::Table { file, name, values }));
            };
            if let Some(agent) = agent.map(AgentKind::name) {
                add(agent_table(agent), file.agents.get(agent));
            }
            add(RUN.to_owned(), file.run.as_ref());
        }
        Layers { layers, agent }
    }

    /// The agent, which decides about the rest.
    fn agent(&self) -> Result<AgentKind> {
        let found = self.layers(None).find(Key::Agent, &mut Vec::new())?;
        found.one(parse_agent)
    }

    /// Refuses unknown keys in all tables of the launcher.
    fn refuse_unknown_keys(&self) -> Result<()> {
        let Some(file) = self.file else {
            return Ok(());
        };
        let path = file.path.display();
        let unknown = |name: &str, table: &str| {
            Error::usage(format!("{path}: unknown key {name:?} in {table}"))
        };
        if let Some(run) = &file.run {
            Key::require_known(run.keys(), Scope::Table, |name| unknown(name, RUN))?;
        }
        for (agent, table) in &file.agents {
            let shown = agent_table(agent);
            parse_agent(agent).map_err(|rule| {
                Error::usage(format!("{path}: there is no agent for {shown}"))
                    .hint(format!("accepted is {rule}"))
            })?;
            Key::require_known(table.keys(), Scope::AgentTable, |name| {
                unknown(name, &shown)
            })?;
        }
        match &file.serve {
            Some(serve) => ServeKey::require_known(serve.keys(), Scope::Table, |name| {
                unknown(name, super::layers::SERVE)
            }),
            None => Ok(()),
        }
    }
}

impl RunSettings {
    /// The given values and otherwise the defaults, whatever the caller's
    /// configuration says.
    pub(crate) fn fixed(values: &[(Key, &str)]) -> Result<Self> {
        let sources = Sources {
            flags: &FlagValues::new(values),
            environment: &|_| None,
            file: None,
        };
        Ok(Self::resolve(&sources)?.0)
    }

    /// All settings, and the source of each.
    pub(super) fn resolve(sources: &Sources<'_>) -> Result<(Self, Vec<SettingRow>)> {
        sources.refuse_unknown_keys()?;
        // A wrong value for another agent is found now, not when that one runs.
        for name in sources.file.iter().flat_map(|file| file.agents.keys()) {
            let other = Sources {
                flags: &FlagValues::new(&[(Key::Agent, name)]),
                environment: &|_| None,
                ..*sources
            };
            Self::read(&other.layers(Some(other.agent()?)))?;
        }
        Self::read(&sources.layers(Some(sources.agent()?)))
    }

    /// User and group of the agent in a container.
    pub(crate) fn agent_user(&self) -> Result<User> {
        User::of_agent(self.user)
            .context(|| Error::not_started("no user id to run the agent as").hint("see --user"))
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
