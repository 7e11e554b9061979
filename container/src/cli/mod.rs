//! The command line. Its types stay here: what the user typed becomes
//! something the program uses only in `config` and the commands.

mod clean;
mod config;
mod dead_letter;
mod run;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use drawbridge_shared::exit::Exit;

use crate::config::{FlagValues, Key, SettingKey};
use crate::demo::DemoArgs;
use crate::doctor::DoctorArgs;
use crate::error::Result;
use crate::image::BuildArgs;
use crate::serve::{
    CloseArgs, EventsArgs, InterruptArgs, ListArgs, SendArgs, ServeArgs, SubmitArgs,
};
use crate::{demo, doctor, image, serve};

use config::ConfigCommand;
use dead_letter::DeadLetterCommand;

/// Runs coding agents in sealed containers that hold no keys.
#[derive(Debug, Parser)]
#[command(name = "drawbridge", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Command to run.
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

impl Command {
    /// Runs the command to its end.
    pub(crate) fn run(self) -> Result<Exit> {
        match self {
            Self::Run(args) => run::run(&args),
            Self::Demo(args) => demo::command(&args),
            Self::BuildImage(args) => image::command(&args),
            Self::Doctor(args) => doctor::command(&args),
            Self::Serve(args) => serve::command(*args),
            Self::Submit(args) => serve::submit(&args),
            Self::Send(args) => serve::send(&args),
            Self::List(args) => serve::list(&args),
            Self::Events(args) => serve::events(&args),
            Self::Close(args) => serve::close(&args),
            Self::Interrupt(args) => serve::interrupt(&args),
            Self::DeadLetter { command } => dead_letter::command(&command),
            Self::Clean => clean::clean(),
            Self::Config { command } => config::command(&command),
        }
    }
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
    #[arg(long, value_name = Key::OnRequest.setting().value, help = Key::OnRequest.setting().help)]
    on_request: Option<String>,
    /// JSON file with the groups and scheduled tasks that the host has.
    #[arg(long, value_name = "FILE")]
    pub(crate) snapshot: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: FlagValues<Key>,
    /// Program and arguments of `--agent command` and `--agent acp`; for the
    /// others but `builtin`, what to start instead of their usual program.
    #[arg(last = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<String>,
}

impl RunArgs {
    /// The flags of all settings.
    fn flags(&self) -> FlagValues<Key> {
        let mut flags = self.settings.clone();
        if let Some(program) = &self.on_request {
            flags.give(Key::OnRequest, program);
        }
        flags
    }
}
