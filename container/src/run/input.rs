//! The input of a run's runner.

use std::path::PathBuf;

use drawbridge_shared::protocol::{AgentOptions, RunInput, RunOptions, RunPaths};

use super::context::RunContext;
use super::mounts::RunMounts;
use crate::engine::Runtime;
use crate::error::Result;
use crate::requests::Snapshot;
use crate::spec::WORKSPACE;
use crate::state::Group;

/// The options of a run, but for its nonce and its proxy.
pub(super) fn options(
    context: &RunContext<'_>,
    group: &Group,
    mounts: &RunMounts,
    program: Vec<String>,
) -> Result<RunOptions> {
    let runtime = &context.runtime;
    let settings = &context.settings;
    Ok(RunOptions {
        run_id: Some(context.run.clone()),
        agent: Some(AgentOptions {
            command: program,
            extra_args: settings.agent_args.clone(),
            model: settings.model.clone(),
            ..AgentOptions::new(settings.agent)
        }),
        progress: true,
        paths: paths(runtime, group, mounts),
        extra_folders: mounts.extra_folders(runtime),
        mounted_files: mounts.expected_files(runtime)?,
        ..RunOptions::default()
    })
}

/// The whole input: a prompt, its group and the options.
pub(super) fn run_input(
    prompt: String,
    context: &RunContext<'_>,
    group: &Group,
    snapshot: &Snapshot,
    options: RunOptions,
) -> RunInput {
    RunInput {
        prompt,
        session_id: group.session(context.settings.agent).map(String::from),
        group_folder: group.name().to_string(),
        chat_jid: snapshot.jid_of(group.name()).unwrap_or_default().to_owned(),
        is_main: snapshot.is_main(group.name()),
        is_scheduled_task: false,
        assistant_name: None,
        script: None,
        drawbridge: Some(options),
    }
}

/// A container has fixed paths; on the host they are the group's own.
fn paths(runtime: &Runtime, group: &Group, mounts: &RunMounts) -> Option<RunPaths> {
    match runtime {
        Runtime::Container(..) => None,
        Runtime::Host => Some(RunPaths {
            workspace: group.workspace(),
            ipc: group.ipc(),
            home: group.home(),
            global: mounts.shared("global"),
            skills: mounts.shared("skills"),
            extra: None,
        }),
    }
}

/// The workspace, as the agent knows it.
pub(super) fn workspace(runtime: &Runtime, group: &Group) -> PathBuf {
    match runtime {
        Runtime::Container(..) => WORKSPACE.into(),
        Runtime::Host => group.workspace(),
    }
}
