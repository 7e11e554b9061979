//! Profiles of the known ACP agents: their start, their access to the proxy,
//! their end.

use std::ffi::OsString;
use std::time::Duration;

use drawbridge_shared::env;
use drawbridge_shared::protocol::{AgentKind, ErrorKind};
use serde_json::{Value, json};

use super::gemini;
use super::opencode::Server;
use crate::agent::types::{AgentSpec, Failure, ModelAccess};
use crate::process::child::{ChildSpec, StopLadder};

/// Model of opencode when the run does not name one.
const OPENCODE_MODEL: &str = "claude-opus-5-5";
/// Model of Gemini CLI when the run does not name one. With its own default it
/// asks a classifier first, and tries that for a minute and a half.
const GEMINI_MODEL: &str = "gemini-2.5-pro";

/// The end of a conversation that is over; what the vendors' own SDKs grant.
const CLOSE: StopLadder = StopLadder {
    eof: Duration::from_secs(5),
    term: Duration::from_secs(5),
};
/// The end of a stopped run; within what the supervisor grants.
const STOP: StopLadder = StopLadder {
    eof: Duration::from_secs(1),
    term: Duration::from_secs(2),
};
/// For an agent that does not end when its input does.
const STOP_BY_SIGNAL: StopLadder = StopLadder {
    eof: Duration::ZERO,
    term: Duration::from_secs(2),
};

/// A known way to drive an agent.
pub(super) struct Profile {
    pub(super) child: ChildSpec,
    /// The stop at the end of the conversation.
    pub(super) close: StopLadder,
    /// The stop at the end of a stopped run.
    pub(super) stop: StopLadder,
    /// The server that reports what its protocol leaves out.
    pub(super) server: Option<Server>,
}

impl Profile {
    /// The profile of the run's agent.
    ///
    /// # Errors
    /// The agent needs a program, a file or a port that is not there.
    pub(super) fn new(spec: &AgentSpec) -> Result<Self, Failure> {
        match spec.options.kind {
            AgentKind::Opencode => Self::opencode(spec),
            AgentKind::Gemini => Self::gemini(spec),
            _ => Self::any(spec),
        }
    }

    fn opencode(spec: &AgentSpec) -> Result<Self, Failure> {
        let server = Server::choose().map_err(|error| {
            let text = format!("there is no port for opencode's server: {error}");
            Failure::new(ErrorKind::StartUp, text)
        })?;
        let mut args = command(spec, "opencode");
        args.extend(["acp".into(), "--cwd".into(), spec.workspace.clone().into()]);
        args.extend(server.args());
        args.extend(spec.options.extra_args.iter().map(OsString::from));
        let mut child = child_spec(spec, args);
        child.env.extend(server.env());
        // Else it asks for models, plugins and itself at other hosts.
        for name in [
            "OPENCODE_DISABLE_MODELS_FETCH",
            "OPENCODE_DISABLE_DEFAULT_PLUGINS",
            "OPENCODE_DISABLE_AUTOUPDATE",
            "OPENCODE_DISABLE_LSP_DOWNLOAD",
        ] {
            child.env.push((name.into(), "1".into()));
        }
        if let Some(access) = &spec.model_access {
            // Its provider knows this variable only, whatever the proxy injects.
            child
                .env
                .push((env::ANTHROPIC_API_KEY.into(), access.token.clone().into()));
            child
                .removed_env
                .retain(|name| *name != env::ANTHROPIC_API_KEY);
            let model = spec.options.model.as_deref().unwrap_or(OPENCODE_MODEL);
            let config = opencode_config(model, access).to_string();
            child
                .env
                .push(("OPENCODE_CONFIG_CONTENT".into(), config.into()));
        }
        Ok(Self {
            child,
            close: CLOSE,
            stop: STOP,
            server: Some(server),
        })
    }

    fn gemini(spec: &AgentSpec) -> Result<Self, Failure> {
        if let Some(id) = &spec.resume {
            gemini::protect_session(&spec.home, id);
        }
        let mut args = command(spec, "gemini");
        let model = spec.options.model.as_deref().unwrap_or(GEMINI_MODEL);
        for arg in ["--acp", "--skip-trust", "--yolo", "-m", model] {
            args.push(arg.into());
        }
        args.extend(spec.options.extra_args.iter().map(OsString::from));
        let mut child = child_spec(spec, args);
        // Else it starts itself again and ignores SIGTERM.
        child
            .env
            .push(("GEMINI_CLI_NO_RELAUNCH".into(), "true".into()));
        let settings = gemini::write_settings(spec)?;
        child
            .env
            .push(("GEMINI_CLI_SYSTEM_SETTINGS_PATH".into(), settings));
        if let Some(access) = &spec.model_access {
            let url = format!("{}/gemini", access.base_url);
            child
                .env
                .push(("GOOGLE_GEMINI_BASE_URL".into(), url.into()));
            child
                .env
                .push(("GEMINI_API_KEY".into(), access.token.clone().into()));
        }
        // It does not end when its input does.
        Ok(Self {
            child,
            close: STOP_BY_SIGNAL,
            stop: STOP_BY_SIGNAL,
            server: None,
        })
    }

    fn any(spec: &AgentSpec) -> Result<Self, Failure> {
        if spec.options.command.is_empty() {
            let text = "the acp agent needs a program: set `agent.command`";
            return Err(Failure::new(ErrorKind::Input, text));
        }
        Ok(Self {
            child: child_spec(spec, command(spec, "")),
            close: CLOSE,
            stop: STOP,
            server: None,
        })
    }
}

/// The program and its first arguments.
fn command(spec: &AgentSpec, usual: &str) -> Vec<OsString> {
    if spec.options.command.is_empty() {
        vec![usual.into()]
    } else {
        spec.options.command.iter().map(OsString::from).collect()
    }
}

fn child_spec(spec: &AgentSpec, mut command: Vec<OsString>) -> ChildSpec {
    let args = command.split_off(1);
    ChildSpec {
        program: command.into_iter().next().unwrap_or_default(),
        args,
        cwd: spec.workspace.clone(),
        env: spec.environment(),
        removed_env: spec.removed_environment(),
    }
}

/// opencode's configuration: one provider, the proxy. A model is
/// `PROVIDER/NAME`, or a name of the `anthropic` provider.
fn opencode_config(model: &str, access: &ModelAccess) -> Value {
    let (provider, name) = model.split_once('/').unwrap_or(("anthropic", model));
    let route = if provider == "anthropic" {
        String::new()
    } else {
        format!("/{provider}")
    };
    json!({
        "model": format!("{provider}/{name}"),
        "small_model": format!("{provider}/{name}"),
        "autoupdate": false,
        "share": "disabled",
        "permission": {"*": "allow"},
        "enabled_providers": [provider],
        "provider": {provider: {
            "options": {
                "baseURL": format!("{}{route}/v1", access.base_url),
                // Kept out of the configuration; see the variable.
                "apiKey": format!("{{env:{}}}", env::ANTHROPIC_API_KEY),
            },
            // Named, because the list of models is not fetched.
            "models": {name: {"tool_call": true, "limit": {"context": 200_000, "output": 32_000}}},
        }},
    })
}
