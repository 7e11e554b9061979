//! The opening of a conversation with Codex.

use std::time::Duration;

use drawbridge_shared::ids::AgentSessionId;
use drawbridge_shared::protocol::ErrorKind;
use serde_json::{Value, json};

use super::launch;
use crate::agent::rpc::{Peer, RpcError};
use crate::agent::types::{AgentEvent, AgentLink, AgentSpec, Failure};

/// Longest time for each step of Codex's start.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Opens the conversation, the one to resume or a new one, and returns its id.
///
/// # Errors
/// Codex ended, did not answer, or refused.
pub(super) async fn begin(
    peer: &mut Peer,
    spec: &AgentSpec,
    link: &AgentLink,
) -> Result<String, Failure> {
    let mut others = Vec::new();
    let client = json!({"clientInfo": {
        "name": "drawbridge", "title": "Drawbridge", "version": env!("CARGO_PKG_VERSION"),
    }});
    let hello = call(peer, "initialize", client, &mut others)
        .await?
        .map_err(start_failure)?;
    peer.notify("initialized", json!({}))?;
    if let Some(version) = launch::version(&hello) {
        link.send(AgentEvent::Version(version)).await;
    }
    let mut answer = None;
    if let Some(id) = &spec.resume {
        let mut params = launch::thread_params(spec);
        params["threadId"] = id.as_str().into();
        params["excludeTurns"] = true.into();
        match call(peer, "thread/resume", params, &mut others).await? {
            Ok(resumed) => answer = Some(resumed),
            Err(error) if is_missing(&error) => {
                link.send(AgentEvent::SessionLost(id.clone())).await
            }
            Err(error) => return Err(start_failure(error)),
        }
    }
    let answer = match answer {
        Some(answer) => answer,
        None => {
            let params = launch::thread_params(spec);
            let begun = call(peer, "thread/start", params, &mut others).await?;
            begun.map_err(start_failure)?
        }
    };
    let id: AgentSessionId = answer["thread"]["id"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| Failure::new(ErrorKind::StartUp, "codex gave its thread no usable id"))?;
    link.send(AgentEvent::Session(id.clone())).await;
    for (method, params) in others {
        warn_of_failed_tools(&method, &params, link).await;
    }
    Ok(id.to_string())
}

async fn call(
    peer: &mut Peer,
    method: &str,
    params: Value,
    others: &mut Vec<(String, Value)>,
) -> Result<Result<Value, RpcError>, Failure> {
    peer.call(method, params, START_DEADLINE, others).await
}

fn start_failure(error: RpcError) -> Failure {
    let text = format!("codex cannot start: {}", error.describe());
    Failure::new(ErrorKind::StartUp, text)
}

/// Whether a conversation to resume does not exist; Codex has no code for it.
fn is_missing(error: &RpcError) -> bool {
    ["no rollout found", "thread not found", "invalid thread id"]
        .iter()
        .any(|text| error.message.contains(text))
}

/// An agent without its tools works on silently, so the host needs a notice.
pub(super) async fn warn_of_failed_tools(method: &str, params: &Value, link: &AgentLink) {
    if method == "mcpServer/startupStatus/updated" && params["status"] == "failed" {
        let name = params["name"].as_str().unwrap_or_default();
        let error = params["error"].as_str().unwrap_or("no reason given");
        let text = format!("the tools of {name} are missing: {error}");
        link.send(AgentEvent::Warning(text)).await;
    }
}
