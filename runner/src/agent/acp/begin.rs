//! The opening of a conversation with an ACP agent.

use std::time::Duration;

use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::protocol::ErrorKind;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::agent::host_tools::HostTools;
use crate::agent::rpc::{Incoming, Peer, RpcError};
use crate::agent::types::{AgentEvent, AgentLink, AgentSpec, Failure};

/// Longest time for each step; opencode needs five seconds to start.
const DEADLINE: Duration = Duration::from_secs(90);
/// Silence after which an agent has replayed its old conversation.
const HISTORY_SILENCE: Duration = Duration::from_millis(250);
/// Longest time that telling it may take.
const HISTORY_DEADLINE: Duration = Duration::from_secs(20);
/// The protocol's code for "log in first".
pub(super) const AUTH_REQUIRED: i64 = -32000;

/// An open conversation.
pub(super) struct Begun {
    pub(super) session: String,
    /// Text that the first prompt begins with.
    pub(super) instructions: Option<String>,
}

/// Opens the conversation, the one to resume or a new one.
///
/// # Errors
/// The agent ended, did not answer, or refused.
pub(super) async fn begin(
    peer: &mut Peer,
    spec: &AgentSpec,
    link: &AgentLink,
) -> Result<Begun, Failure> {
    let hello = json!({
        "protocolVersion": 1,
        "clientCapabilities": {
            "fs": {"readTextFile": false, "writeTextFile": false},
            "terminal": false,
        },
        "clientInfo": {"name": "drawbridge", "version": env!("CARGO_PKG_VERSION")},
    });
    let hello = call(peer, "initialize", hello).await?.map_err(failure)?;
    if hello["protocolVersion"] != 1 {
        let text = format!(
            "the agent speaks version {} of its protocol, not 1",
            hello["protocolVersion"]
        );
        return Err(Failure::new(ErrorKind::StartUp, text));
    }
    if let Some(version) = hello["agentInfo"]["version"].as_str() {
        link.send(AgentEvent::Version(version.to_owned())).await;
    }
    if let Some(id) = &spec.resume {
        if resume(peer, spec, id, &hello["agentCapabilities"]).await? {
            link.send(AgentEvent::Session(id.clone())).await;
            return Ok(Begun {
                session: id.to_string(),
                instructions: None,
            });
        }
        link.send(AgentEvent::SessionLost(id.clone())).await;
    }
    let answer = call(peer, "session/new", session_params(spec))
        .await?
        .map_err(failure)?;
    let id: AgentSessionId = answer["sessionId"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| {
            Failure::new(
                ErrorKind::StartUp,
                "the agent gave its session no usable id",
            )
        })?;
    link.send(AgentEvent::Session(id.clone())).await;
    Ok(Begun {
        session: id.to_string(),
        instructions: spec.append_system_prompt.clone(),
    })
}

/// Resumes a conversation; false when the agent does not have it any more or
/// cannot resume.
async fn resume(
    peer: &mut Peer,
    spec: &AgentSpec,
    id: &AgentSessionId,
    capabilities: &Value,
) -> Result<bool, Failure> {
    let method = if capabilities["sessionCapabilities"]["resume"].is_object() {
        "session/resume"
    } else if capabilities["loadSession"] == true {
        "session/load"
    } else {
        tracing::warn!("the agent cannot resume conversations");
        return Ok(false);
    };
    let mut params = session_params(spec);
    params["sessionId"] = id.as_str().into();
    match call(peer, method, params).await? {
        Ok(_) if method == "session/load" => pass_over_history(peer).await.map(|()| true),
        Ok(_) => Ok(true),
        Err(error) if error.code == AUTH_REQUIRED => Err(failure(error)),
        // The protocol has no code for a conversation that does not exist.
        Err(error) => {
            tracing::warn!("conversation {id} is not resumed: {}", error.describe());
            Ok(false)
        }
    }
}

/// Ignores the old conversation, which `session/load` replays.
///
/// Gemini CLI goes on telling it after its answer, and the protocol has no mark
/// for the end, so silence has to do.
async fn pass_over_history(peer: &mut Peer) -> Result<(), Failure> {
    let deadline = Instant::now() + HISTORY_DEADLINE;
    while Instant::now() < deadline {
        match timeout(HISTORY_SILENCE, peer.next()).await {
            Err(_) => break,
            Ok(Incoming::Request { id, method, .. }) => peer.refuse(&id, &method)?,
            Ok(Incoming::Exited(report)) => {
                return Err(Failure::new(ErrorKind::StartUp, peer.describe(&report)));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

fn session_params(spec: &AgentSpec) -> Value {
    let tools = &spec.host_tools;
    let env: Vec<_> = tools
        .env
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    json!({
        "cwd": spec.workspace,
        "mcpServers": [{
            "name": HostTools::NAME,
            "command": tools.program,
            "args": tools.args,
            "env": env,
        }],
    })
}

async fn call(
    peer: &mut Peer,
    method: &str,
    params: Value,
) -> Result<Result<Value, RpcError>, Failure> {
    peer.call(method, params, DEADLINE, &mut Vec::new()).await
}

fn failure(error: RpcError) -> Failure {
    let kind = if error.code == AUTH_REQUIRED {
        ErrorKind::Auth
    } else {
        ErrorKind::StartUp
    };
    Failure::new(
        kind,
        format!("the agent cannot start: {}", error.describe()),
    )
}
