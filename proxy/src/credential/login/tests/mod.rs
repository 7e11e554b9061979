//! Logins against a stand-in issuer. Time is stopped, so waits cost nothing and
//! files are looked at again at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::clock::Clock;
use super::super::tests::opened;
use super::super::{Credential, CredentialSource, Credentials, Environment, Reason, Secret};

mod files;
mod issuer;
mod outage;
mod shared;
mod wire;

use issuer::{Failure, Issuer};

/// What the stopped clock shows first, in Unix seconds.
const NOW: u64 = 1_800_000_000;

/// A Claude login whose token ends `seconds` after now.
struct Login {
    folder: tempfile::TempDir,
    issuer: Issuer,
    credentials: Credentials,
}

impl Login {
    fn ending_in(seconds: i64, issuer: Issuer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".claude")).unwrap();
        let login = Self {
            credentials: credentials(folder.path(), &issuer),
            folder,
            issuer,
        };
        login.write(0, seconds);
        login
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(".claude/.credentials.json")
    }

    /// Writes the tokens of a number, as a log-in does.
    fn write(&self, number: usize, ends_in: i64) {
        let login = json!({
            "claudeAiOauth": {
                "accessToken": format!("CANARY-access-{number}"),
                "refreshToken": format!("CANARY-refresh-{number}"),
                "expiresAt": (NOW.saturating_add_signed(ends_in)) * 1000,
                "scopes": ["user:inference"],
                "subscriptionType": "max",
            },
            "mcpOAuth": { "other": [1, 2.5, null] },
        });
        std::fs::write(self.path(), login.to_string()).unwrap();
    }

    async fn open(&self) -> Credential {
        opened(&self.credentials, &claude()).await
    }

    /// The same file seen by another process.
    fn another_process(&self) -> Credentials {
        credentials(self.folder.path(), &self.issuer)
    }

    fn saved(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path()).unwrap()).unwrap()
    }
}

fn credentials(home: &Path, issuer: &Issuer) -> Credentials {
    let environment = Environment::new([("HOME", home.to_str().unwrap())], home);
    Credentials {
        clock: Clock::of_runtime(),
        connect: Some(Arc::new(issuer.handle())),
        ..Credentials::new(environment, tokio::runtime::Handle::current())
    }
}

fn claude() -> CredentialSource {
    CredentialSource::ClaudeLogin {
        path: None,
        token_endpoint: None,
    }
}

fn access(number: usize) -> Secret {
    Secret::new(&format!("CANARY-access-{number}")).unwrap()
}

/// Waits until the credential's value is this one.
async fn becomes(credential: &Credential, secret: &Secret) {
    let mut state = credential.state.subscribe();
    let is_it = state.wait_for(|state| state.last() == Some(secret));
    tokio::time::timeout(Duration::from_secs(600), is_it)
        .await
        .unwrap()
        .unwrap();
}
