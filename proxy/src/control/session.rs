//! Sessions over the admin surface.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use drawbridge_shared::ids::RunId;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Shared;
use super::admin::{error, ok, refusal};
use crate::base::network::Network;
use crate::observe::audit::Event;
use crate::policy::{RouteName, Rule};
use crate::session::{Session, SessionLimits, SessionSpec, Transport};

/// Longest life of a session, in seconds: a year.
const MAX_LIFETIME: u64 = 366 * 86_400;

/// A session to issue: the body of `POST /sessions`.
#[derive(Debug, Default, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssueRequest {
    /// Run that the session belongs to; a random one when absent
    #[arg(long, value_name = "RUN_ID")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    /// Route it may use; repeat for more [default: all]
    #[arg(long = "route", value_name = "NAME")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    routes: Option<Vec<String>>,
    /// What it may do on its routes, such as "POST /v1/messages"; repeat for more
    #[arg(long, value_name = "RULE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allow: Option<Vec<String>>,
    /// Seconds until the token expires
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    lifetime_seconds: u64,
    /// The only address or network its requests may come from, such as
    /// 172.18.0.0/16
    #[arg(long, value_name = "NETWORK")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<Network>,
    /// Most requests in flight
    #[arg(long, value_name = "N")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrent: Option<u32>,
    /// Most requests started per minute
    #[arg(long, value_name = "N")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_per_minute: Option<u32>,
    /// Most bytes of one request body
    #[arg(long, value_name = "N")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_bytes: Option<u64>,
    /// Budget of input tokens
    #[arg(long, value_name = "N")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    /// Budget of output tokens
    #[arg(long, value_name = "N")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
}

impl IssueRequest {
    fn into_spec(self) -> Result<SessionSpec, String> {
        if !(1..=MAX_LIFETIME).contains(&self.lifetime_seconds) {
            return Err(format!("lifetime_seconds must be 1 to {MAX_LIFETIME}"));
        }
        let run: RunId = match self.run {
            Some(run) => run.parse().map_err(|error| format!("{error}"))?,
            None => RunId::random().map_err(|error| error.to_string())?,
        };
        let routes = self.routes.map(|routes| {
            let names = routes.iter().map(|name| name.parse::<RouteName>());
            names.collect::<Result<BTreeSet<_>, _>>()
        });
        let allow = self.allow.map(|rules| {
            let rules = rules.iter().map(|rule| rule.parse::<Rule>());
            rules.collect::<Result<Vec<_>, _>>()
        });
        Ok(SessionSpec {
            routes: routes.transpose().map_err(|error| error.to_string())?,
            allow: allow.transpose().map_err(|error| error.to_string())?,
            transport: self.source.map_or(Transport::Any, Transport::Source),
            limits: SessionLimits {
                concurrent: self.concurrent,
                requests_per_minute: self.requests_per_minute,
                body_bytes: self.body_bytes,
                input_tokens: self.input_tokens,
                output_tokens: self.output_tokens,
            },
            ..SessionSpec::new(run, Duration::from_secs(self.lifetime_seconds))
        })
    }
}

pub(super) fn issue(shared: &Shared, body: &[u8]) -> Response<Full<Bytes>> {
    let request = serde_json::from_slice::<IssueRequest>(body);
    let spec = request
        .map_err(|e| e.to_string())
        .and_then(IssueRequest::into_spec);
    let spec = match spec {
        Ok(spec) => spec,
        Err(problem) => return error(StatusCode::BAD_REQUEST, &problem),
    };
    let (run, lifetime) = (spec.run.to_string(), spec.lifetime.as_secs());
    match shared.sessions.issue(spec) {
        Ok(guard) => {
            let id = guard.id().to_string();
            audit(shared, "issued", &id, &run);
            let token = guard.keep();
            ok(&json!({
                "id": id, "token": token.as_str(), "run": run, "lifetime_seconds": lifetime,
            }))
        }
        Err(problem) => {
            let hint = problem.hint();
            refusal(StatusCode::SERVICE_UNAVAILABLE, &problem.to_string(), hint)
        }
    }
}

pub(super) fn revoke(shared: &Shared, id: &str) -> Response<Full<Bytes>> {
    match shared.sessions.revoke_named(id) {
        Some(session) => {
            audit(shared, "revoked", id, session.spec.run.as_str());
            ok(&json!({ "revoked": id }))
        }
        None => error(StatusCode::NOT_FOUND, "no session has this id"),
    }
}

pub(super) fn list(shared: &Shared) -> Value {
    let mut sessions = shared.sessions.live();
    sessions.sort_by(|a, b| a.id.cmp(&b.id));
    let shown: Vec<_> = sessions.iter().map(|session| show(session)).collect();
    json!({ "sessions": shown, "uptime_seconds": shared.started.elapsed().as_secs() })
}

fn show(session: &Session) -> Value {
    let (input, output) = session.usage.tokens();
    let routes = session.spec.routes.as_ref();
    let left = session.expires.saturating_duration_since(Instant::now());
    json!({
        "id": session.id.as_str(),
        "run": session.spec.run.as_str(),
        "routes": routes.map(|r| r.iter().map(RouteName::as_str).collect::<Vec<_>>()),
        "expires_in_seconds": left.as_secs(),
        "requests": session.usage.requests(),
        "in_flight": session.usage.in_flight(),
        "input_tokens": input,
        "output_tokens": output,
    })
}

fn audit(shared: &Shared, action: &'static str, session: &str, run: &str) {
    if let Some(audit) = shared.telemetry.audit() {
        audit.note(Event::Session {
            action,
            session: session.to_owned(),
            run: run.to_owned(),
        });
    }
}
