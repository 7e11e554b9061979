//! `credential-proxy check` and `auth-mode`.

use drawbridge_shared::exit::Exit;

use super::{ConfigArgs, Failure, output};
use crate::base::chain;
use crate::config::{Document, Environment, ProxyConfig};
use crate::credential::Credentials;
use crate::upstream::connect::Connector;
use crate::upstream::tls;

/// Checks configuration and credentials, and reports on each route.
pub(super) fn check(args: &ConfigArgs) -> Result<Exit, Failure> {
    let config = resolve(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::infrastructure)?;
    let mut problems = 0;
    let mut credentials = Credentials::new(config.environment.clone(), runtime.handle().clone());
    match tls::client_config(&config.extra_roots) {
        Ok(tls) => {
            let connector = Connector::new(&tls, config.deadlines.connect);
            credentials = credentials.reaching(connector.through(config.outgoing.clone()));
        }
        Err(error) => {
            problems += 1;
            output::line(&format!("tls: {}", chain(&error)));
        }
    }
    for route in &config.routes {
        let source = route.credential.as_ref();
        let opened = source.map_err(Clone::clone).and_then(|source| {
            let credential = credentials.open(source)?;
            runtime.block_on(credential.current())?;
            Ok(source.to_string())
        });
        let (name, upstream) = (&route.name, route.upstream.url());
        match opened {
            Ok(source) => {
                let rules = route.allow.len();
                output::line(&format!("{name}: ok: {upstream}, {rules} rules, {source}"));
            }
            Err(error) => {
                problems += 1;
                let hint = error.hint().map(|hint| format!(" (hint: {hint})"));
                let (error, hint) = (chain(&error), hint.unwrap_or_default());
                output::line(&format!("{name}: no credential: {error}{hint}"));
            }
        }
    }
    // A login that is due is renewed now, and must not be cut off.
    runtime.block_on(credentials.end());
    Ok(if problems == 0 {
        Exit::Success
    } else {
        Exit::NotStarted
    })
}

/// Prints the mode of the default route, as NanoClaw's host mirrors it to its
/// containers.
pub(super) fn auth_mode(args: &ConfigArgs) -> Result<Exit, Failure> {
    output::line(resolve(args)?.auth_mode().name());
    Ok(Exit::Success)
}

fn resolve(args: &ConfigArgs) -> Result<ProxyConfig, Failure> {
    let environment = Environment::observe().map_err(Failure::infrastructure)?;
    let file = match &args.config {
        Some(path) => Document::read(path).map(Some),
        None => Document::find(&environment),
    };
    let file = file.map_err(Failure::usage)?;
    ProxyConfig::resolve(file.as_ref(), &environment).map_err(Failure::usage)
}
