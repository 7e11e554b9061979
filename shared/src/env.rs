//! Names of environment variables that more than one program reads or sets.

/// API key of the Anthropic API; wins over an OAuth token when both are set.
pub const ANTHROPIC_API_KEY: &str = "ANTHROPIC_API_KEY";
/// OAuth token of a Claude subscription.
pub const CLAUDE_CODE_OAUTH_TOKEN: &str = "CLAUDE_CODE_OAUTH_TOKEN";
/// Bearer token for an Anthropic-compatible endpoint; read after
/// [`CLAUDE_CODE_OAUTH_TOKEN`].
pub const ANTHROPIC_AUTH_TOKEN: &str = "ANTHROPIC_AUTH_TOKEN";
/// Base URL of the Anthropic API: the upstream on the host, the proxy inside a
/// container.
pub const ANTHROPIC_BASE_URL: &str = "ANTHROPIC_BASE_URL";

/// Port the credential proxy listens on.
pub const CREDENTIAL_PROXY_PORT: &str = "CREDENTIAL_PROXY_PORT";
/// Address the credential proxy binds to.
pub const CREDENTIAL_PROXY_HOST: &str = "CREDENTIAL_PROXY_HOST";

/// Agent that an image runs when the run input does not name one.
pub const DRAWBRIDGE_AGENT: &str = "DRAWBRIDGE_AGENT";
/// Id of the run a process belongs to; by it the orphans of a killed run are
/// found.
pub const DRAWBRIDGE_RUN_ID: &str = "DRAWBRIDGE_RUN_ID";
/// Folder for the launcher's state instead of the user's state folder.
pub const DRAWBRIDGE_STATE_DIR: &str = "DRAWBRIDGE_STATE_DIR";

/// The agent's key when a host without sessions starts it.
pub const PLACEHOLDER: &str = "placeholder";

/// Path inside a sealed container where the proxy's socket is mounted.
pub const PROXY_SOCKET: &str = "/run/drawbridge/proxy.sock";
