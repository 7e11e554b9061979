//! The command line. Its types stay here: what the user typed becomes
//! something the program uses only in `config` and the commands.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use drawbridge_shared::exit::Exit;

use crate::config::{ConfigCommand, Key, TypedSettings};
use crate::dead_letter::DeadLetterCommand;
use crate::demo::DemoArgs;
use crate::doctor::DoctorArgs;
use crate::image::BuildArgs;
use crate::serve::{
    CloseArgs, EventsArgs, InterruptArgs, ListArgs, SendArgs, ServeArgs, SubmitArgs,
};

/// Runs coding agents in sealed containers that hold no keys.
#[derive(Debug, Parser)]
#[command(name = "drawbridge", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an agent, print its answer, and take follow-up messages.
    Run(Box<RunArgs>),
    /// Show how it all works, with a stand-in for the model: needs no key, no
    /// account and no container engine.
    Demo(DemoArgs),
    /// Build an image with an agent in it, without a network.
    BuildImage(BuildArgs),
    /// Check all that a run needs, from outside and from inside a container.
    Doctor(Box<DoctorArgs>),
    /// Be a launcher that is left running: take submissions, run a few at a
    /// time, and keep what cannot be done.
    Serve(Box<ServeArgs>),
    /// Hand work to the `serve` of this state folder.
    Submit(Box<SubmitArgs>),
    /// Send a message to a live run, or to a group.
    Send(SendArgs),
    /// Show what waits, runs and has ended.
    List(ListArgs),
    /// Print events as NDJSON.
    Events(EventsArgs),
    /// End a conversation, or take a submission out of the queue.
    Close(CloseArgs),
    /// Stop the present turn of a live run.
    Interrupt(InterruptArgs),
    /// Look at what failed for good.
    DeadLetter {
        #[command(subcommand)]
        command: DeadLetterCommand,
    },
    /// Remove what killed runs left behind.
    Clean,
    /// Look at the configuration, or change it.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

/// Arguments of `drawbridge run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The first message to the agent; `-` reads it from standard input.
    #[arg(long, value_name = "TEXT|-", allow_hyphen_values = true)]
    pub(crate) prompt: String,
    /// Keep workspace, home and conversation under this name for later runs.
    /// Without it, all of them are removed after the run.
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// Print NDJSON events, and take follow-ups as NDJSON on standard input.
    #[arg(long)]
    pub(crate) json: bool,
    /// Program that answers what the agent asks for: one request as JSON on its
    /// standard input, the answer as JSON on its standard output.
    #[arg(long, value_name = "PROGRAM|none")]
    on_request: Option<String>,
    /// JSON file with the groups and scheduled tasks that the host has.
    #[arg(long, value_name = "FILE")]
    pub(crate) snapshot: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// Program and arguments of `--agent command` and `--agent acp`; for the
    /// others but `builtin`, what to start instead of their usual program.
    #[arg(last = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<String>,
}

impl TypedSettings for RunArgs {
    fn typed(&self, key: Key) -> Option<&str> {
        match key {
            Key::OnRequest => self.on_request.as_deref(),
            key => self.settings.typed(key),
        }
    }

    fn mounts(&self) -> Vec<&str> {
        self.settings.mounts()
    }
}

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

/// Shows help, the version or a usage error, and says how to exit.
pub(crate) fn report(error: &clap::Error) -> Exit {
    if error.use_stderr() {
        // Nobody is left to tell when standard error is gone.
        let _ = write!(std::io::stderr(), "{}", error.render());
        Exit::Usage
    } else {
        crate::output::data_line(error.render().to_string().trim_end());
        Exit::Success
    }
}
