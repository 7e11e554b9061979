//! The target and the host of a request, for its upstream.

use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Uri, Version};
use zeroize::Zeroizing;

use crate::base::headers;
use crate::policy::Refusal;
use crate::routes::{Route, RouteTable};
use crate::secret::Secret;

/// The target to send: the route's base path, then the same bytes of the path
/// that were matched against its rules, then the query without credentials but
/// the one that the route puts there.
pub(crate) fn upstream_uri(
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

/// Checks that a request is addressed to where its route leads.
///
/// In base-URL use `Host` names the proxy itself, by whatever name the container
/// reaches it. It may not name another route's upstream, and a target in
/// absolute form, which is for proxies, has to name this route's.
///
/// # Errors
/// Target, `Host` and route disagree.
pub(crate) fn check_host(head: &Parts, route: &Route, table: &RouteTable) -> Result<(), Refusal> {
    let host = head.headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = head.uri.authority().map(Authority::as_str);
    let (Some(host), Some(authority)) = (host, authority) else {
        let named = host.or_else(|| authority.map(str::as_bytes));
        return named.map_or(Ok(()), |named| check_name(named, route, table));
    };
    if !host.eq_ignore_ascii_case(authority.as_bytes()) {
        return Err(Refusal::WrongHost);
    }
    let is_absolute_form = head.version < Version::HTTP_2;
    if is_absolute_form && !route.upstream().has_authority(host) {
        return Err(Refusal::WrongHost);
    }
    check_name(host, route, table)
}

fn check_name(named: &[u8], route: &Route, table: &RouteTable) -> Result<(), Refusal> {
    let mut others = table.routes().iter().map(Route::upstream);
    let is_this = route.upstream().has_authority(named);
    if !is_this && others.any(|other| other.has_authority(named)) {
        return Err(Refusal::WrongHost);
    }
    Ok(())
}
