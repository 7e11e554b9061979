//! OAuth token files, opened from their sources.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::clock::Clock;
use super::super::source::CredentialSource;
use super::{Connect, DirectConnect, EndpointUrl, Format, Login};
use crate::policy::Deadlines;
use crate::secret::{Environment, Unavailable};
use crate::upstream::connect::Connector;
use crate::upstream::tls;

/// Public client id of Claude Code, which its logins are made for.
const CLAUDE_CLIENT: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";
const CLAUDE_ENDPOINT: &str = "https://platform.claude.com/v1/oauth/token";

/// Public client id of Codex, which its logins are made for.
const CODEX_CLIENT: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
const CODEX_ENDPOINT: &str = "https://auth.openai.com/oauth/token";

/// Surroundings in which sources are opened.
#[derive(Debug)]
pub(in crate::credential) struct Context<'a> {
    pub(in crate::credential) environment: &'a Environment,
    pub(in crate::credential) connect: Option<&'a Arc<dyn Connect>>,
    pub(in crate::credential) clock: Clock,
}

/// Opens a source that is an OAuth token file; `None` for any other.
///
/// # Errors
/// The file's place, its token endpoint or TLS cannot be used.
pub(in crate::credential) fn open(
    source: &CredentialSource,
    context: &Context<'_>,
) -> Result<Option<Login>, Unavailable> {
    let environment = context.environment;
    let (format, client_id, path, endpoint) = match source {
        CredentialSource::Oauth {
            path,
            token_endpoint,
            client_id,
            ..
        } => (
            Format::Plain,
            client_id.as_str(),
            Some(path),
            token_endpoint.as_str(),
        ),
        CredentialSource::CodexLogin {
            path,
            token_endpoint,
        } => {
            let endpoint = token_endpoint.as_deref().unwrap_or(CODEX_ENDPOINT);
            (Format::Codex, CODEX_CLIENT, path.as_ref(), endpoint)
        }
        CredentialSource::ClaudeLogin {
            path,
            token_endpoint,
        } => {
            let endpoint = token_endpoint.as_deref().unwrap_or(CLAUDE_ENDPOINT);
            (Format::Claude, CLAUDE_CLIENT, path.as_ref(), endpoint)
        }
        _ => return Ok(None),
    };
    let client_secret = match source {
        CredentialSource::Oauth {
            client_secret_variable,
            ..
        } => client_secret_variable.clone(),
        _ => None,
    };
    Ok(Some(Login {
        format,
        path: match path {
            Some(path) => environment.resolve(path),
            None => default_path(format, environment)?,
        },
        endpoint: EndpointUrl::parse(endpoint).map_err(|error| {
            Unavailable::broken(
                format!("the token-endpoint {endpoint:?} is not usable"),
                error,
            )
        })?,
        client_id: client_id.to_owned(),
        client_secret,
        environment: environment.clone(),
        connect: connect(context)?,
        clock: context.clock,
        issued: None,
        refused: None,
    }))
}

/// Where the vendor's program keeps its login.
fn default_path(format: Format, environment: &Environment) -> Result<PathBuf, Unavailable> {
    let (variable, folder, file) = match format {
        Format::Claude => ("CLAUDE_CONFIG_DIR", ".claude", ".credentials.json"),
        Format::Codex | Format::Plain => ("CODEX_HOME", ".codex", "auth.json"),
    };
    let home = || {
        environment
            .variable("HOME")
            .map(|home| PathBuf::from(home).join(folder))
    };
    let folder = environment
        .variable(variable)
        .map(PathBuf::from)
        .or_else(home);
    let folder = folder.ok_or_else(|| {
        Unavailable::missing(format!("neither {variable} nor HOME says where {file} is"))
            .with_hint("give the login file as `path`")
    })?;
    Ok(environment.resolve(&folder.join(file)))
}

fn connect(context: &Context<'_>) -> Result<Arc<dyn Connect>, Unavailable> {
    match context.connect {
        Some(connect) => Ok(Arc::clone(connect)),
        None => {
            let tls = tls::client_config(&[])
                .map_err(|error| Unavailable::broken("TLS cannot be set up", error))?;
            let limit = Deadlines::default().connect;
            Ok(Arc::new(DirectConnect::new(Connector::new(&tls, limit))))
        }
    }
}
