//! Flags of the settings of a run.

use clap::Args;

use super::{Key, TypedSettings};

/// Settings that the configuration file and the environment can also give.
#[derive(Debug, Default, Args)]
pub(crate) struct SettingArgs {
    /// Where the agent runs. `auto` picks an engine, and never `host`.
    #[arg(long, value_name = "auto|docker|podman|apple|host")]
    runtime: Option<String>,
    /// Agent to drive.
    #[arg(long, value_name = "claude|builtin|codex|opencode|gemini|acp|command")]
    agent: Option<String>,
    /// Image to start, instead of the one of the agent.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// What the container reaches: only the proxy's socket, or the internet.
    #[arg(long, value_name = "sealed|bridge")]
    network: Option<String>,
    /// Model to ask for.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Most memory and swap.
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Most processors.
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// Most processes and threads.
    #[arg(long, value_name = "NUMBER")]
    pids: Option<String>,
    /// Size of the container's /tmp.
    #[arg(long, value_name = "SIZE")]
    tmp_size: Option<String>,
    /// Whether programs in /tmp can be started.
    #[arg(long, value_name = "true|false")]
    tmp_exec: Option<String>,
    /// Run without Landlock on the host, with access to all your files.
    #[arg(long)]
    no_sandbox: bool,
    /// Longest run, or `none`.
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// Longest time without a sign of life of the agent or of you, or `none`.
    #[arg(long, value_name = "TIME")]
    idle_timeout: Option<String>,
    /// Protections to do without where the engine lacks them, such as
    /// `seccomp,no-new-privileges` for Apple's `container`.
    #[arg(long, value_name = "LIST|none")]
    waive: Option<String>,
    /// Cover files that are known to hold secrets, such as `.env`, in the
    /// workspace and in mounted folders.
    #[arg(long, value_name = "true|false")]
    mask_secrets: Option<String>,
    /// Largest file the agent may write, or `none`.
    #[arg(long, value_name = "SIZE")]
    file_size: Option<String>,
    /// Who the agent is in its container.
    #[arg(long, value_name = "caller|UID:GID")]
    user: Option<String>,
    /// Show a folder or file of this machine to the agent, at
    /// `/workspace/extra/NAME`, or with `same-path` where it is here; may be
    /// repeated. The allowlist has to name it.
    #[arg(long, value_name = "HOST[:NAME][:same-path][:rw]")]
    mount: Vec<String>,
}

impl TypedSettings for SettingArgs {
    fn mounts(&self) -> Vec<&str> {
        self.mount.iter().map(String::as_str).collect()
    }

    fn typed(&self, key: Key) -> Option<&str> {
        let value = match key {
            // Only commands that start agents have it.
            Key::OnRequest => return None,
            Key::Sandbox => return self.no_sandbox.then_some("off"),
            Key::Runtime => &self.runtime,
            Key::Agent => &self.agent,
            Key::Image => &self.image,
            Key::Network => &self.network,
            Key::Model => &self.model,
            Key::Memory => &self.memory,
            Key::Cpus => &self.cpus,
            Key::Pids => &self.pids,
            Key::TmpSize => &self.tmp_size,
            Key::TmpExec => &self.tmp_exec,
            Key::Timeout => &self.timeout,
            Key::IdleTimeout => &self.idle_timeout,
            Key::Waive => &self.waive,
            Key::MaskSecrets => &self.mask_secrets,
            Key::FileSize => &self.file_size,
            Key::User => &self.user,
        };
        value.as_deref()
    }
}
