//! A source whose paths and settings have been resolved: where a value can be
//! read now, and again later.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::at_hand::AtHand;
use super::clock::Clock;
use super::command;
use super::login::{Connect, DirectConnect, EndpointUrl, Format, Login};
use super::source::CredentialSource;
use super::state::Reading;
use crate::policy::Deadlines;
use crate::secret::{Environment, Secret, Unavailable, files};
use crate::upstream::connect::Connector;
use crate::upstream::tls;

/// Public client id of Claude Code, which its logins are made for.
const CLAUDE_CLIENT: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";
const CLAUDE_ENDPOINT: &str = "https://platform.claude.com/v1/oauth/token";

/// Public client id of Codex, which its logins are made for.
const CODEX_CLIENT: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
const CODEX_ENDPOINT: &str = "https://auth.openai.com/oauth/token";

/// A source that can be read.
#[derive(Debug)]
pub(super) enum Opened {
    AtHand(AtHand),
    Command {
        command: Vec<String>,
        lifetime: Duration,
        timeout: Duration,
        environment: Environment,
        clock: Clock,
    },
    Login(Box<Login>),
}

/// Surroundings that sources are resolved with.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) environment: &'a Environment,
    pub(super) connect: Option<&'a Arc<dyn Connect>>,
    pub(super) clock: Clock,
}

impl Opened {
    pub(super) fn new(
        source: &CredentialSource,
        context: &Context<'_>,
    ) -> Result<Self, Unavailable> {
        let environment = context.environment;
        if let Some(at_hand) = AtHand::of(source, environment) {
            return Ok(Self::AtHand(at_hand));
        }
        Ok(match source {
            CredentialSource::Command {
                command,
                lifetime,
                timeout,
            } => Self::Command {
                command: command.clone(),
                lifetime: *lifetime,
                timeout: *timeout,
                environment: environment.clone(),
                clock: context.clock,
            },
            _ => Self::Login(Box::new(login(source, context)?)),
        })
    }

    /// The file to watch.
    pub(super) fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::AtHand(at_hand) => at_hand.path(),
            Self::Command { .. } => None,
            Self::Login(login) => Some(&login.path),
        }
    }

    /// Whether the value can never be another one.
    pub(super) const fn is_fixed(&self) -> bool {
        matches!(self, Self::AtHand(AtHand::Process { .. }))
    }

    /// The value of now.
    pub(super) async fn read(&mut self) -> Result<Reading, Unavailable> {
        match self {
            Self::AtHand(at_hand) => {
                let place = at_hand.clone();
                let secret = match at_hand.path() {
                    Some(path) => files::blocking(path, move |_| place.read()).await,
                    None => at_hand.read(),
                };
                secret.map(Reading::lasting)
            }
            Self::Command {
                command,
                lifetime,
                timeout,
                environment,
                clock,
            } => {
                let secret = command::run(command, *timeout, environment).await?;
                Ok(Reading {
                    renew_at: clock.now().checked_add(*lifetime),
                    ..Reading::lasting(secret)
                })
            }
            Self::Login(login) => login.read().await,
        }
    }

    /// A value other than `stale`, if the source can make one.
    pub(super) async fn renew(&mut self, stale: Option<&Secret>) -> Result<Reading, Unavailable> {
        match self {
            Self::Login(login) => login.renew(stale).await,
            _ => self.read().await,
        }
    }

    /// Tries again to write what could not be written.
    pub(super) async fn save(&mut self) -> Result<(), Unavailable> {
        match self {
            Self::Login(login) => login.save().await,
            _ => Ok(()),
        }
    }

    /// Whether something has to be written still.
    pub(super) fn is_unsaved(&self) -> bool {
        matches!(self, Self::Login(login) if login.is_unsaved())
    }
}

/// Resolves one of the three sources that are logins.
fn login(source: &CredentialSource, context: &Context<'_>) -> Result<Login, Unavailable> {
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
        _ => return Err(Unavailable::missing(format!("{source} is not a login"))),
    };
    let client_secret = match source {
        CredentialSource::Oauth {
            client_secret_variable,
            ..
        } => client_secret_variable.clone(),
        _ => None,
    };
    Ok(Login {
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
    })
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
