//! The command line and environment of Claude Code.

use std::ffi::OsString;

use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::protocol::AgentOptions;
use serde_json::{Map, Value, json};

use crate::agent::host_tools::HostTools;
use crate::agent::types::AgentSpec;
use crate::process::child::ChildSpec;

/// The tools that NanoClaw allows. Naming a tool also switches it on; names
/// that a version does not know are ignored.
const ALLOWED_TOOLS: &[&str] = &[
    "Bash",
    "Read",
    "Write",
    "Edit",
    "Glob",
    "Grep",
    "WebSearch",
    "WebFetch",
    "Task",
    "TaskOutput",
    "TaskStop",
    "TeamCreate",
    "TeamDelete",
    "SendMessage",
    "TodoWrite",
    "ToolSearch",
    "Skill",
    "NotebookEdit",
    "mcp__nanoclaw__*",
];

/// Variables that Claude Code must find in its environment.
const ENVIRONMENT: &[(&str, &str)] = &[
    // Without it Claude Code calls its vendor past the base URL, in OAuth mode
    // with the token.
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    // Report busy and idle; the second name is that of 2.1.197.
    ("CLAUDE_CODE_SDK_READS_SESSION_STATE", "1"),
    ("CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS", "1"),
    // Say on standard output why it cannot start.
    ("CLAUDE_CODE_STARTUP_FAILURE_RESULTS", "1"),
    ("CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD", "1"),
];

/// The command line and environment of Claude Code.
pub(super) fn child_spec(spec: &AgentSpec, resume: Option<&AgentSessionId>) -> ChildSpec {
    let mut command = spec.options.command.iter().map(OsString::from);
    let program = command.next().unwrap_or_else(|| "claude".into());
    let mut args: Vec<OsString> = command.collect();
    args.extend(flags(spec, resume));
    let mut env = spec.environment();
    env.extend(
        ENVIRONMENT
            .iter()
            .map(|(name, value)| (name.into(), value.into())),
    );
    // Claude Code refuses to work as root outside a sandbox; a container is one.
    if rustix::process::geteuid().is_root() {
        env.push(("IS_SANDBOX".into(), "1".into()));
    }
    let mut removed_env = spec.removed_environment();
    removed_env.push("CLAUDECODE");
    ChildSpec {
        program,
        args,
        cwd: spec.workspace.clone(),
        env,
        removed_env,
    }
}

/// The flags, in `--flag=value` form, so that no value can pass for a flag, and the
/// arguments that the user adds.
fn flags(spec: &AgentSpec, resume: Option<&AgentSessionId>) -> Vec<OsString> {
    let mut args = Vec::new();
    for flag in [
        "-p",
        "--output-format=stream-json",
        "--verbose",
        "--input-format=stream-json",
        "--setting-sources=project,user",
        "--permission-mode=bypassPermissions",
        "--allow-dangerously-skip-permissions",
    ] {
        args.push(flag.into());
    }
    let options = &spec.options;
    if offers_host_tools(options) {
        args.push(format!("--mcp-config={}", mcp_config(&spec.host_tools)).into());
    }
    let allowed = options.allowed_tools.as_ref();
    let allowed = allowed.map_or_else(|| ALLOWED_TOOLS.join(","), |tools| tools.join(","));
    args.push(format!("--allowedTools={allowed}").into());
    // In this mode the list above grants nothing: it is this flag that takes the
    // other built-in tools away.
    if let Some(tools) = &options.allowed_tools {
        args.push(format!("--tools={}", built_in(tools)).into());
    }
    if !options.disallowed_tools.is_empty() {
        let list = options.disallowed_tools.join(",");
        args.push(format!("--disallowedTools={list}").into());
    }
    for folder in &spec.extra_folders {
        let mut flag = OsString::from("--add-dir=");
        flag.push(folder);
        args.push(flag);
    }
    if let Some(effort) = &options.effort {
        args.push(format!("--effort={effort}").into());
    }
    if let Some(id) = resume {
        args.push(format!("--resume={id}").into());
    }
    if let Some(model) = &options.model {
        args.push(format!("--model={model}").into());
    }
    args.extend(options.extra_args.iter().map(OsString::from));
    args
}

/// The servers that Claude Code starts, in its own form.
fn mcp_config(tools: &HostTools) -> Value {
    let env: Map<_, _> = tools
        .env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone().into()))
        .collect();
    json!({"mcpServers": {HostTools::NAME: {
        "command": tools.program,
        "args": tools.args,
        "env": env,
    }}})
}

/// The list of tools holds back built-in tools only, so a list without a tool of
/// the host leaves out the whole server. One that names some offers all of them.
fn offers_host_tools(options: &AgentOptions) -> bool {
    let prefix = format!("mcp__{}", HostTools::NAME);
    let names_one = |tools: &Vec<String>| tools.iter().any(|tool| tool.starts_with(&prefix));
    options.allowed_tools.as_ref().is_none_or(names_one)
}

/// Names of the built-in tools among rules such as `Bash(git *)`.
fn built_in(rules: &[String]) -> String {
    let names = rules.iter().filter_map(|rule| rule.split('(').next());
    let names: Vec<_> = names.filter(|name| !name.starts_with("mcp__")).collect();
    names.join(",")
}
