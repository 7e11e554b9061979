use drawbridge_shared::protocol::AuthMode;

use super::*;

mod sources;

const FAKE: &str = "sk-ant-fake-CANARY-0123456789";

fn environment(variables: &[(&str, &str)], dotenv: &str) -> (tempfile::TempDir, Environment) {
    let folder = tempfile::tempdir().unwrap();
    if !dotenv.is_empty() {
        std::fs::write(folder.path().join(".env"), dotenv).unwrap();
    }
    let environment = Environment::new(variables.iter().copied(), folder.path());
    (folder, environment)
}

/// Opens a credential and waits for its first value.
pub(super) async fn opened(credentials: &Credentials, source: &CredentialSource) -> Credential {
    let credential = credentials.open(source).unwrap();
    // Some tests look at what is missing then.
    let _ = credential.current().await;
    credential
}

fn variable(name: &str) -> CredentialSource {
    CredentialSource::Environment {
        variable: name.to_owned(),
    }
}

#[test]
fn nothing_prints_a_secret() {
    let secret = Secret::new(FAKE).unwrap();
    let (_folder, environment) = environment(&[("ANTHROPIC_API_KEY", FAKE)], "");
    let setting = crate::secret::setting(&environment, "ANTHROPIC_API_KEY").unwrap();
    insta::assert_snapshot!(
        format!(
            "{secret:?}\n{:?} {:?} {:?}\n{setting:?}",
            secret.header(),
            secret.bearer(),
            secret.basic("x").unwrap()
        ),
        @r#"
    Secret([REDACTED])
    Sensitive Sensitive Sensitive
    Some(Setting { value: "[REDACTED]", origin: Process })
    "#
    );
    assert!(!format!("{environment:?} {:?}", secret.patterns()).contains("CANARY"));
}

#[test]
fn class_12_values_that_would_break_a_request_head_are_refused_at_load() {
    let refused = |text: &str| Secret::new(text).unwrap_err();
    assert_eq!(refused(""), InvalidSecret::Empty);
    assert_eq!(
        refused("a b\r\nx: y"),
        InvalidSecret::Unprintable { position: 4 }
    );
    assert_eq!(refused("a\0"), InvalidSecret::Unprintable { position: 2 });
    assert_eq!(
        refused("key\u{e9}"),
        InvalidSecret::Unprintable { position: 4 }
    );
    assert_eq!(refused(" a"), InvalidSecret::OuterSpace);
    assert_eq!(refused(&"a".repeat(20_000)), InvalidSecret::TooLong(20_000));
    assert!(Secret::from_output(b"key\r\n").unwrap() == Secret::new("key").unwrap());
    assert!(Secret::from_output(b"key\n\n").is_err());
    assert!(Secret::from_output(b"\xff").is_err());
}

#[test]
fn each_place_of_injection_gets_its_encoding() {
    let secret = Secret::new("a+b/c =").unwrap();
    assert_eq!(secret.header(), "a+b/c =");
    assert_eq!(secret.bearer(), "Bearer a+b/c =");
    assert_eq!(
        secret.basic("x-access-token").unwrap(),
        "Basic eC1hY2Nlc3MtdG9rZW46YStiL2MgPQ=="
    );
    assert_eq!(*secret.query(), "a%2Bb%2Fc%20%3D");
    assert_eq!(secret.forms()[0].as_slice(), b"a+b/c =");
}

#[test]
fn an_api_key_wins_over_oauth_and_the_process_over_dotenv() {
    let default = |variables: &[(&str, &str)], dotenv: &str| {
        let (_folder, environment) = environment(variables, dotenv);
        anthropic_default(&environment).unwrap()
    };
    let api_key = (AuthMode::ApiKey, variable("ANTHROPIC_API_KEY"));
    let oauth = (AuthMode::Oauth, variable("CLAUDE_CODE_OAUTH_TOKEN"));
    let bearer = (AuthMode::Oauth, variable("ANTHROPIC_AUTH_TOKEN"));
    assert_eq!(
        default(&[("ANTHROPIC_AUTH_TOKEN", "t")], "ANTHROPIC_API_KEY=k"),
        api_key
    );
    assert_eq!(
        default(&[("ANTHROPIC_API_KEY", "")], "CLAUDE_CODE_OAUTH_TOKEN=t"),
        oauth
    );
    assert_eq!(
        default(&[], "ANTHROPIC_API_KEY=\nANTHROPIC_AUTH_TOKEN=t"),
        bearer
    );
}

#[tokio::test]
async fn the_process_environment_wins_over_dotenv() {
    let (_folder, environment) = environment(
        &[("ANTHROPIC_API_KEY", "from-process")],
        "ANTHROPIC_API_KEY=from-file\nOPENAI_API_KEY=not-read\n",
    );
    let credential = Credential::open(&variable("ANTHROPIC_API_KEY"), &environment)
        .await
        .unwrap();
    assert_eq!(credential.current().await.unwrap().header(), "from-process");
    let error = Credential::open(&variable("OPENAI_API_KEY"), &environment)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::Missing);
}

#[test]
fn no_credential_names_every_place_that_was_looked_at() {
    let environment = Environment::new([("X", "y")], "/nowhere");
    let error = anthropic_default(&environment).unwrap_err();
    insta::assert_snapshot!(format!("{error}\nhint: {}", error.hint().unwrap()), @r#"
    no credential for the Anthropic API: none of ANTHROPIC_API_KEY, CLAUDE_CODE_OAUTH_TOKEN, ANTHROPIC_AUTH_TOKEN is set in the environment or in /nowhere/.env
    hint: set one of them, or name another source under `credential` in drawbridge.toml, for example { source = "claude-login" }
    "#);
}
