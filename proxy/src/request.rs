//! One request, from its head to the answer's.

use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{AUTHORIZATION, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};

use crate::body::{RequestBody, ResponseBody};
use crate::config::ClientAuth;
use crate::error::Refusal;
use crate::forward::forward;
use crate::headers;
use crate::server::worker::Worker;
use crate::session::limit::Admission;
use crate::session::{Origin, Session, TOKEN_PREFIX};
use crate::table::{Route, Selected};
use crate::target;

/// Answers one request; nothing that goes wrong leaves here unanswered.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    origin: Origin,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let shape = worker.table().shape_for(request.uri().path());
    match answer(&worker, origin, request).await {
        Ok(response) => response,
        Err(refusal) => {
            tracing::info!(
                status = refusal.status().as_u16(),
                fault = ?refusal.fault(),
                detail = refusal.detail(),
                "{refusal}"
            );
            refusal.into_response(shape)
        }
    }
}

async fn answer(
    worker: &Rc<Worker>,
    origin: Origin,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Refusal> {
    let table = worker.table();
    let (mut head, body) = request.into_parts();
    target::check(&head.uri)?;
    if table.answers_itself(&head.method, head.uri.path()) {
        return Ok(Response::new(ResponseBody::empty()));
    }

    let session = authenticate(worker, origin, &head.headers, &head.uri)?;
    let Selected { route, path } = table.select(head.uri.path()).ok_or(Refusal::NoRoute)?;
    let id = session.as_deref().map(|session| session.id.as_str());
    tracing::debug!(session = id, route = %route.name(), "request");
    authorize(session.as_deref(), route, &head.method, path)?;
    let admission = session.map(Admission::admit).transpose()?;
    let cap = body_cap(admission.as_ref(), &body)?;

    let secret = route.secret().await?;
    let path_start = head.uri.path().len() - path.len();
    headers::strip_request(&mut head.headers);
    let query = stripped_query(&head.uri);
    head.uri = upstream_uri(&head.uri, path_start, query, route)?;
    head.headers.insert(HOST, route.host_header().clone());
    route.inject(&secret, &mut head);
    head.version = http::Version::HTTP_11;

    let (body, upload) = RequestBody::new(body, cap);
    let request = Request::from_parts(head, body);
    let pool = Rc::clone(table.pool(route));
    let response = forward(&pool, request, &upload, worker.deadlines()).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::UnexpectedUpgrade);
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        route.refused(&secret);
    }
    Ok(response.map(|body| body.holding(admission)))
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
fn presented_credentials(headers: &HeaderMap, query: Option<&str>) -> Vec<Vec<u8>> {
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
fn body_cap(admission: Option<&Admission>, body: &Incoming) -> Result<Option<u64>, Refusal> {
    let cap = admission.and_then(|a| a.session.spec.limits.body_bytes);
    match cap {
        Some(cap) if body.size_hint().lower() > cap => Err(Refusal::BodyTooLarge(cap)),
        cap => Ok(cap),
    }
}

/// The query without credentials: `None` leaves it as it is.
fn stripped_query(uri: &Uri) -> Option<String> {
    headers::without_credential_parameters(uri.query()?)
}

/// The target to send: the route's base path, then the same bytes of the path
/// that were matched against its rules.
fn upstream_uri(
    uri: &Uri,
    path_start: usize,
    stripped_query: Option<String>,
    route: &Route,
) -> Result<Uri, Refusal> {
    let base = route.base_path();
    let is_unchanged = path_start == 0 && base.is_empty() && stripped_query.is_none();
    let target = match uri.path_and_query() {
        Some(target) if is_unchanged => target.clone(),
        _ => {
            let path = &uri.path()[path_start..];
            let query = stripped_query.as_deref().or_else(|| uri.query());
            let joined = match query.filter(|query| !query.is_empty()) {
                Some(query) => format!("{base}{path}?{query}"),
                None => format!("{base}{path}"),
            };
            PathAndQuery::from_maybe_shared(bytes::Bytes::from(joined))
                .map_err(|_| Refusal::Malformed("the target is not valid"))?
        }
    };
    Ok(Uri::from(target))
}
