//! The command line, environment and settings of Codex.

use std::ffi::OsString;

use drawbridge_shared::protocol::ErrorKind;
use serde_json::{Value, json};

use crate::agent::host_tools::HostTools;
use crate::agent::types::{AgentSpec, Failure};
use crate::process::child::ChildSpec;

/// Route of the credential proxy that Codex's provider is reached by.
const ROUTE: &str = "openai";
/// Variable in which Codex finds its key, the session token.
const KEY: &str = "OPENAI_API_KEY";

/// Settings that keep Codex to the proxy and to what the container allows.
const SETTINGS: &[(&str, &str)] = &[
    ("approval_policy", "\"never\""),
    // The container is the sandbox.
    ("sandbox_mode", "\"danger-full-access\""),
    ("check_for_update_on_startup", "false"),
    // Else it looks up github.com and chatgpt.com.
    ("features.plugins", "false"),
    ("analytics.enabled", "false"),
    ("project_doc_fallback_filenames", "[\"CLAUDE.md\"]"),
];

/// The command line and environment of Codex.
///
/// # Errors
/// Its folder cannot be made.
pub(super) fn child_spec(spec: &AgentSpec) -> Result<ChildSpec, Failure> {
    let codex_home = spec.home.join(".codex");
    // Codex does not start without it.
    std::fs::create_dir_all(&codex_home).map_err(|error| {
        let text = format!("cannot make {}: {error}", codex_home.display());
        Failure::new(ErrorKind::StartUp, text)
    })?;
    let mut command = spec.options.command.iter().map(OsString::from);
    let program = command.next().unwrap_or_else(|| "codex".into());
    let mut args: Vec<OsString> = command.collect();
    args.push("app-server".into());
    for (key, value) in settings(spec) {
        args.extend(["-c".into(), format!("{key}={value}").into()]);
    }
    args.extend(spec.options.extra_args.iter().map(OsString::from));
    let mut env = spec.environment();
    env.push(("CODEX_HOME".into(), codex_home.into()));
    if let Some(access) = &spec.model_access {
        env.push((KEY.into(), access.token.clone().into()));
        env.push(("OPENAI_BASE_URL".into(), base_url(&access.base_url).into()));
    }
    Ok(ChildSpec {
        program,
        args,
        cwd: spec.workspace.clone(),
        env,
        removed_env: spec.removed_environment(),
    })
}

/// Keys of the configuration, with values in TOML.
fn settings(spec: &AgentSpec) -> Vec<(String, String)> {
    let own = SETTINGS
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let mut settings: Vec<_> = own.collect();
    let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
    if let Some(model) = &spec.options.model {
        set("model", text(model));
    }
    if let Some(effort) = &spec.options.effort {
        set("model_reasoning_effort", text(effort));
    }
    if let Some(access) = &spec.model_access {
        set("model_provider", text("drawbridge"));
        set("model_providers.drawbridge.name", text("drawbridge"));
        set(
            "model_providers.drawbridge.base_url",
            text(&base_url(&access.base_url)),
        );
        set("model_providers.drawbridge.env_key", text(KEY));
        set("model_providers.drawbridge.wire_api", text("responses"));
    }
    let tools = &spec.host_tools;
    let server = format!("mcp_servers.{}", HostTools::NAME);
    let args: Vec<_> = tools.args.iter().map(|arg| text(arg)).collect();
    set(&format!("{server}.command"), text(&tools.program));
    set(&format!("{server}.args"), format!("[{}]", args.join(",")));
    for (name, value) in &tools.env {
        set(&format!("{server}.env.{name}"), text(value));
    }
    // A question to the user may take this long; the default is a minute.
    set(&format!("{server}.tool_timeout_sec"), "90000".to_owned());
    settings
}

fn base_url(proxy: &str) -> String {
    format!("{proxy}/{ROUTE}/v1")
}

/// A TOML string: JSON's escapes are a part of TOML's.
fn text(value: &str) -> String {
    Value::from(value).to_string()
}

/// The parameters that `thread/start` and `thread/resume` have in common.
pub(super) fn thread_params(spec: &AgentSpec) -> Value {
    json!({
        "cwd": spec.workspace,
        "approvalPolicy": "never",
        "sandbox": "danger-full-access",
        "developerInstructions": spec.append_system_prompt,
    })
}

/// The version in the answer to `initialize`: `name/0.169.0 (system) ...`.
pub(super) fn version(hello: &Value) -> Option<String> {
    let agent = hello["userAgent"].as_str()?;
    let version = agent.split('/').nth(1)?.split_whitespace().next()?;
    Some(version.to_owned())
}

/// The answer to a request for approval; with the policy above there should be
/// none. `None` for requests that nobody here can serve.
pub(super) fn approval(method: &str) -> Option<Value> {
    match method {
        "item/commandExecution/requestApproval" | "item/fileChange/requestApproval" => {
            Some(json!({"decision": "accept"}))
        }
        "mcpServer/elicitation/request" => Some(json!({"action": "decline"})),
        _ => None,
    }
}
