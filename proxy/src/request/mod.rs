//! One request, from its head to the answer's.

use std::rc::Rc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};

mod authenticate;
mod context;
mod forward;
mod render;
mod response_body;
mod target;
mod upgrade;

#[cfg(fuzzing)]
pub(crate) use authenticate::presented_credentials;
pub(crate) use context::{Client, HeadRefusal, RequestContext, RequestSetup, UpgradeSwitch};
pub(crate) use response_body::ResponseBody;

use self::authenticate::authenticate;
use self::context::Routing;
use self::forward::{Outgoing, forward};
use self::render::render;
use self::response_body::Exchange;
use crate::base::{headers, path};
use crate::http1::Violation;
use crate::observe::Completion;
use crate::policy::{ErrorStyle, Fault, Refusal};
use crate::routes::{Route, RouteSlot, Selected};
use crate::scrub;
use crate::secret::Secret;
use crate::session::Session;
use crate::session::limit::Admission;
use crate::upstream::{Lease, RequestBody, UploadGuard};
use crate::usage::UsageMeter;

/// Answers one request; nothing that goes wrong leaves here unanswered.
pub(crate) async fn serve(
    context: Rc<RequestContext>,
    client: Client,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let routing = context.routing();
    let (table, path) = (routing.table(), request.uri().path());
    let style = table.errors_for(path);
    let Ok(mut completion) = context.telemetry().begin(request.method(), request.uri()) else {
        return render(&Refusal::AuditUnavailable, style);
    };
    if let Some(violation) = client.refusal.of(request.method()) {
        let refusal = Refusal::Malformed(violation.reason());
        return refuse(refusal, &client, &mut completion, style);
    }
    if table.answers_itself(request.method(), path) {
        completion.head(StatusCode::OK);
        completion.done();
        return Response::new(ResponseBody::empty());
    }
    let switching = hyper::upgrade::on(&mut request);
    match answer(&context, &routing, &client, request, &mut completion).await {
        Ok(forwarded) if forwarded.protocol.is_some() => {
            client.upgrade.grant();
            forwarded.into_switched(switching, completion)
        }
        Ok(forwarded) => {
            client.upgrade.deny();
            forwarded.into_response(completion)
        }
        Err(refusal) => {
            client.upgrade.deny();
            refuse(refusal, &client, &mut completion, style)
        }
    }
}

/// Records a refusal and makes it a response, which is the connection's last one
/// when the client has sent what cannot be read.
fn refuse(
    refusal: Refusal,
    client: &Client,
    completion: &mut Completion,
    style: ErrorStyle,
) -> Response<ResponseBody> {
    completion.head(refusal.status());
    completion.failed(refusal.reason());
    log(&refusal);
    let mut response = render(&refusal, style);
    if client.refusal.is_set() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

/// Authenticates, routes, strips, injects and forwards.
async fn answer(
    context: &RequestContext,
    routing: &Routing,
    client: &Client,
    request: Request<Incoming>,
    completion: &mut Completion,
) -> Result<Forwarded, Refusal> {
    let (mut head, body) = request.into_parts();
    path::check(&head.uri)?;
    let session = authenticate(context, client.origin, &head.headers, &head.uri)?;
    if let Some(session) = &session {
        completion.session(session.id.shared());
    }
    let table = routing.table();
    let Selected { route, path } = table.select(head.uri.path()).ok_or(Refusal::NoRoute)?;
    completion.route(route.metrics());
    target::check_host(&head, route, table)?;
    authorize(session.as_deref(), route, &head.method, path)?;
    let admission = session.map(Admission::admit).transpose()?;
    let slot = route.admit()?;
    let cap = body_cap(admission.as_ref(), route, &body)?;
    let secret = route.secret().await?;

    let path_start = head.uri.path().len() - path.len();
    // Tokens that are used over another protocol could not be charged to a budget.
    let is_counted = admission.as_ref().is_some_and(Admission::counts_tokens);
    let protocol = upgrade::requested(&head).filter(|_| !is_counted);
    check_early_bytes(client, protocol.as_ref())?;
    prepare(&mut head, path_start, route, &secret, protocol.clone())?;
    let (body, upload) = RequestBody::new(body, cap, completion.bytes_in().clone());
    let request = Request::from_parts(head, body);
    let deadlines = route.deadlines(context.deadlines());
    let exchange = Outgoing {
        pool: routing.pool(route),
        metrics: route.metrics(),
        upload: &upload,
        deadlines: &deadlines,
        is_upgrade: protocol.is_some(),
    };
    let (mut response, lease) = forward(exchange, request).await?;
    if response.status() == StatusCode::UNAUTHORIZED {
        route.refused(&secret);
    }
    let protocol = check_answer(&mut response, protocol)?;
    check_early_bytes(client, protocol.as_ref())?;
    Ok(Forwarded {
        meter: route.meter(response.headers()),
        response,
        lease,
        upload,
        admission: (admission, slot),
        idle: deadlines.idle,
        secret,
        protocol,
    })
}

/// Makes a client's request the proxy's own: what belongs to the client's hop
/// and every credential is removed before anything is added.
fn prepare(
    head: &mut Parts,
    path_start: usize,
    route: &Route,
    secret: &Secret,
    protocol: Option<HeaderValue>,
) -> Result<(), Refusal> {
    headers::strip_request(&mut head.headers);
    head.extensions.clear();
    head.version = Version::HTTP_11;
    head.uri = target::upstream_uri(&head.uri, path_start, route, secret)?;
    head.headers.insert(HOST, route.host_header().clone());
    scrub::request_identity(&mut head.headers);
    if let Some(protocol) = protocol {
        upgrade::ask(&mut head.headers, protocol);
    } else {
        head.headers.remove(SEC_WEBSOCKET_PROTOCOL);
    }
    route.inject(secret, head)
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

/// Refuses a switch of protocols to a client that did not wait for it.
fn check_early_bytes(client: &Client, protocol: Option<&HeaderValue>) -> Result<(), Refusal> {
    if protocol.is_some() && client.refusal.is_set() {
        let early = Violation::EarlyUpgradeBytes.reason();
        return Err(Refusal::Malformed(early));
    }
    Ok(())
}

/// Makes sure that the answer is one that secrets can be removed from, and that
/// protocols are switched only if that was asked for. Returns the protocol that
/// is switched to.
fn check_answer(
    response: &mut Response<Incoming>,
    requested: Option<HeaderValue>,
) -> Result<Option<HeaderValue>, Refusal> {
    let granted = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let granted = requested.filter(|p| upgrade::is_granted(response.headers(), p));
        Some(granted.ok_or(Refusal::UnexpectedUpgrade)?)
    } else {
        None
    };
    scrub::require_identity(response.headers()).map_err(|error| Refusal::Compressed {
        detail: error.to_string(),
    })?;
    headers::strip_response(response.headers_mut());
    Ok(granted)
}

/// An upstream's answer, its body still to come.
struct Forwarded {
    response: Response<Incoming>,
    lease: Lease,
    upload: UploadGuard,
    admission: (Option<Admission>, RouteSlot),
    meter: Option<UsageMeter>,
    idle: Duration,
    secret: Secret,
    /// The protocol that the upstream switches to.
    protocol: Option<HeaderValue>,
}

impl Forwarded {
    fn into_response(mut self, mut completion: Completion) -> Response<ResponseBody> {
        let patterns = self.secret.patterns().clone();
        *self.response.version_mut() = Version::HTTP_11;
        let (mut head, incoming) = self.response.into_parts();
        completion.head(head.status);
        scrub::scrub_head(&mut head, &patterns);
        let (admission, meter) = (self.admission, self.meter);
        let exchange = Exchange::new(self.lease, self.upload, admission, meter, completion);
        let body = ResponseBody::streaming(incoming, patterns, self.idle, exchange);
        Response::from_parts(head, body)
    }

    /// Grants the client the switch that the upstream has granted, and relays
    /// what follows.
    fn into_switched(
        mut self,
        client: hyper::upgrade::OnUpgrade,
        mut completion: Completion,
    ) -> Response<ResponseBody> {
        let patterns = self.secret.patterns().clone();
        let upstream = hyper::upgrade::on(&mut self.response);
        let (mut head, _) = self.response.into_parts();
        completion.head(head.status);
        scrub::scrub_head(&mut head, &patterns);
        if let Some(protocol) = self.protocol {
            upgrade::switch(&mut head.headers, protocol);
        }
        let exchange = Exchange::new(self.lease, self.upload, self.admission, None, completion);
        let relay = upgrade::relay(client, upstream, patterns, self.idle, exchange);
        tokio::task::spawn_local(relay);
        Response::from_parts(head, ResponseBody::empty())
    }
}

/// Logs the cause, which the completion line leaves out.
fn log(refusal: &Refusal) {
    let Some(detail) = refusal.detail() else {
        return;
    };
    match refusal.fault() {
        Fault::Client => tracing::debug!("{refusal}: {detail}"),
        Fault::Upstream | Fault::Proxy => tracing::warn!("{refusal}: {detail}"),
    }
}
