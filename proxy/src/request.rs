//! One request, from its head to the answer's.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{AUTHORIZATION, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};

use crate::body::{Exchange, RequestBody, ResponseBody};
use crate::config::ClientAuth;
use crate::credential::Secret;
use crate::error::{Fault, Refusal};
use crate::forward::forward;
use crate::headers;
use crate::scrub;
use crate::server::worker::{Routing, Worker};
use crate::session::limit::Admission;
use crate::session::{Origin, Session, TOKEN_PREFIX};
use crate::table::{Route, RouteSlot, Selected};
use crate::target;
use crate::telemetry::Completion;
use crate::upstream::Lease;
use crate::usage::UsageMeter;
use zeroize::Zeroizing;

/// Answers one request; nothing that goes wrong leaves here unanswered.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    origin: Origin,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let routing = worker.routing();
    let style = routing.table().errors_for(request.uri().path());
    let Ok(mut completion) = worker.telemetry().begin(request.method(), request.uri()) else {
        return Refusal::AuditUnavailable.into_response(style);
    };
    if routing
        .table()
        .answers_itself(request.method(), request.uri().path())
    {
        completion.head(StatusCode::OK);
        completion.done();
        return Response::new(ResponseBody::empty());
    }
    match answer(&worker, &routing, origin, request, &mut completion).await {
        Ok(forwarded) => forwarded.into_response(completion),
        Err(refusal) => {
            completion.head(refusal.status());
            completion.failed(refusal.reason());
            log(&refusal);
            refusal.into_response(style)
        }
    }
}

/// An upstream's answer, its body still to come.
struct Forwarded {
    response: Response<Incoming>,
    lease: Lease,
    admission: (Option<Admission>, RouteSlot),
    meter: Option<UsageMeter>,
    idle: Duration,
    secret: Secret,
}

async fn answer(
    worker: &Worker,
    routing: &Routing,
    origin: Origin,
    request: Request<Incoming>,
    completion: &mut Completion,
) -> Result<Forwarded, Refusal> {
    let table = routing.table();
    let (mut head, body) = request.into_parts();
    target::check(&head.uri)?;
    let session = authenticate(worker, origin, &head.headers, &head.uri)?;
    if let Some(session) = &session {
        completion.session(session.id.shared());
    }
    let Selected { route, path } = table.select(head.uri.path()).ok_or(Refusal::NoRoute)?;
    completion.route(route.metrics());
    authorize(session.as_deref(), route, &head.method, path)?;
    let admission = session.map(Admission::admit).transpose()?;
    let slot = route.admit()?;
    let cap = body_cap(admission.as_ref(), route, &body)?;
    let secret = route.secret().await?;

    let path_start = head.uri.path().len() - path.len();
    headers::strip_request(&mut head.headers);
    head.uri = upstream_uri(&head.uri, path_start, route, &secret)?;
    head.headers.insert(HOST, route.host_header().clone());
    scrub::request_identity(&mut head.headers);
    route.inject(&secret, &mut head)?;
    head.version = http::Version::HTTP_11;

    let (body, upload) = RequestBody::new(body, cap, completion.bytes_in().clone());
    let request = Request::from_parts(head, body);
    let deadlines = route.deadlines(worker.deadlines());
    let pool = routing.pool(route);
    let (mut response, lease) =
        forward(pool, route.metrics(), request, &upload, &deadlines).await?;
    if response.status() == StatusCode::UNAUTHORIZED {
        route.refused(&secret);
    }
    check_answer(&mut response)?;
    Ok(Forwarded {
        meter: route.meter(response.headers()),
        response,
        lease,
        admission: (admission, slot),
        idle: deadlines.idle,
        secret,
    })
}

/// Makes sure that the answer is one that secrets can be removed from.
fn check_answer(response: &mut Response<Incoming>) -> Result<(), Refusal> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::UnexpectedUpgrade);
    }
    scrub::require_identity(response.headers()).map_err(|error| Refusal::Compressed {
        detail: error.to_string(),
    })?;
    headers::strip_response(response.headers_mut());
    Ok(())
}

impl Forwarded {
    fn into_response(self, mut completion: Completion) -> Response<ResponseBody> {
        let (mut head, incoming) = self.response.into_parts();
        completion.head(head.status);
        let patterns = self.secret.patterns();
        scrub::scrub_head(&mut head, patterns);
        let (admission, slot) = self.admission;
        let exchange = Exchange {
            lease: self.lease,
            admission,
            _slot: slot,
            meter: self.meter,
            completion,
        };
        let body = ResponseBody::streaming(incoming, patterns.clone(), self.idle, exchange);
        Response::from_parts(head, body)
    }
}

/// Logs what the completion line does not tell: the cause.
fn log(refusal: &Refusal) {
    let Some(detail) = refusal.detail() else {
        return;
    };
    match refusal.fault() {
        Fault::Client => tracing::debug!("{refusal}: {detail}"),
        Fault::Upstream | Fault::Proxy => tracing::warn!("{refusal}: {detail}"),
    }
}

/// Finds the session that the request's token opens. `None` is the client of
/// a proxy in placeholder mode, which has no session.
fn authenticate(
    worker: &Worker,
    origin: Origin,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Option<Arc<Session>>, Refusal> {
    let presented = presented_credentials(headers, uri.query());
    let mut tokens = presented
        .iter()
        .filter(|c| c.starts_with(TOKEN_PREFIX.as_bytes()));
    if let Some(token) = tokens.next() {
        let session = worker.sessions().authenticate(token, origin);
        return session.map(Some).ok_or(Refusal::Unauthenticated);
    }
    let placeholder = drawbridge_shared::env::PLACEHOLDER.as_bytes();
    let is_placeholder = presented.iter().any(|c| c == placeholder);
    match worker.client_auth() {
        ClientAuth::Placeholder if is_placeholder => Ok(None),
        _ => Err(Refusal::Unauthenticated),
    }
}

/// What the client presents, in every place a token is accepted in: the places
/// where its agents and SDKs put a key.
pub(crate) fn presented_credentials(headers: &HeaderMap, query: Option<&str>) -> Vec<Vec<u8>> {
    let keys = ["x-api-key", "x-goog-api-key"].into_iter();
    let keys = keys.filter_map(|name| headers.get(name));
    let keys = keys.map(|value| value.as_bytes().to_vec());
    let authorization = headers.get(AUTHORIZATION);
    let authorization = authorization.and_then(|value| authorization_credential(value.as_bytes()));
    let parameter = query.and_then(|query| {
        let key = query.split('&').find_map(|pair| pair.strip_prefix("key="));
        key.map(|key| key.as_bytes().to_vec())
    });
    keys.chain(authorization).chain(parameter).collect()
}

/// The credential in an `Authorization` value: a bearer token, GitHub's `token`,
/// or the password of Basic, which is where git puts it.
fn authorization_credential(value: &[u8]) -> Option<Vec<u8>> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, credential) = (&value[..space], value[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") || scheme.eq_ignore_ascii_case(b"token") {
        return Some(credential.to_vec());
    }
    if scheme.eq_ignore_ascii_case(b"basic") {
        let pair = BASE64.decode(credential).ok()?;
        let colon = pair.iter().position(|byte| *byte == b':')?;
        return Some(pair[colon + 1..].to_vec());
    }
    None
}

fn authorize(
    session: Option<&Session>,
    route: &Route,
    method: &Method,
    path: &str,
) -> Result<(), Refusal> {
    let name = route.name();
    if session.is_some_and(|session| !session.may_use(name)) {
        return Err(Refusal::RouteNotGranted(name.to_string()));
    }
    let is_allowed =
        route.allows(method, path) && session.is_none_or(|session| session.allows(method, path));
    if is_allowed {
        Ok(())
    } else {
        Err(Refusal::NotAllowed(name.to_string()))
    }
}

/// The most bytes the body may have; refused at once if it announces more.
fn body_cap(
    admission: Option<&Admission>,
    route: &Route,
    body: &Incoming,
) -> Result<Option<u64>, Refusal> {
    let of_session = admission.and_then(|a| a.session.spec.limits.body_bytes);
    let caps = [of_session, route.limits().body_bytes];
    match caps.into_iter().flatten().min() {
        Some(cap) if body.size_hint().lower() > cap => Err(Refusal::BodyTooLarge(cap)),
        cap => Ok(cap),
    }
}

/// The target to send: the route's base path, then the same bytes of the path
/// that were matched against its rules, then the query without credentials but
/// the one that the route puts there.
fn upstream_uri(
    uri: &Uri,
    path_start: usize,
    route: &Route,
    secret: &Secret,
) -> Result<Uri, Refusal> {
    let parameter = route.injected_parameter();
    let stripped = uri
        .query()
        .and_then(|query| headers::without_credential_parameters(query, parameter));
    let base = route.base_path();
    let is_unchanged =
        path_start == 0 && base.is_empty() && stripped.is_none() && parameter.is_none();
    if let (true, Some(target)) = (is_unchanged, uri.path_and_query()) {
        return Ok(Uri::from(target.clone()));
    }
    let mut target = Zeroizing::new([base, &uri.path()[path_start..]].concat());
    let query = stripped.as_deref().or_else(|| uri.query());
    let mut separator = '?';
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        target.push(separator);
        target.push_str(query);
        separator = '&';
    }
    if let Some(name) = parameter {
        target.push(separator);
        target.push_str(name);
        target.push('=');
        target.push_str(&secret.query());
    }
    PathAndQuery::try_from(target.as_str())
        .map(Uri::from)
        .map_err(|_| Refusal::Malformed("the target is not valid"))
}
