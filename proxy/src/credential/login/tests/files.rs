//! The formats of login files.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;

use super::*;

#[tokio::test(start_paused = true)]
async fn writing_back_keeps_unknown_fields_mode_and_links() {
    let login = Login::ending_in(-10, Issuer::new());
    let real = login.folder.path().join("real.json");
    std::fs::rename(login.path(), &real).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real, login.path()).unwrap();

    assert_eq!(login.open().await.current().await.unwrap(), access(1));

    assert!(login.path().is_symlink());
    let mode = std::fs::metadata(&real).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(
        login.saved(),
        json!({
            "claudeAiOauth": {
                "accessToken": "CANARY-access-1",
                "refreshToken": "CANARY-refresh-1",
                "expiresAt": (NOW + 3600) * 1000,
                "scopes": ["user:inference", "user:profile"],
                "subscriptionType": "max",
            },
            "mcpOAuth": { "other": [1, 2.5, null] },
        })
    );
    let left: Vec<_> = std::fs::read_dir(login.folder.path().join(".claude"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(
        left,
        [".credentials.json"],
        "no lock and no temporary file is left"
    );
}

#[tokio::test(start_paused = true)]
async fn claude_codes_request_is_json_with_the_scopes_of_the_login() {
    let login = Login::ending_in(-10, Issuer::new());
    login.open().await;
    let body: Value = serde_json::from_str(&login.issuer.last_body()).unwrap();
    assert_eq!(
        body,
        json!({
            "grant_type": "refresh_token",
            "refresh_token": "CANARY-refresh-0",
            "client_id": "9d1c250a-e61b-44d9-88ed-5944d1962f5e",
            "scope": "user:inference",
        })
    );
}

#[tokio::test(start_paused = true)]
async fn codex_tokens_end_when_their_claim_says() {
    let (folder, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
    let claims = json!({ "exp": NOW + 5, "note": "CANARY-access-0" });
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims.to_string());
    let path = folder.path().join("auth.json");
    let file = json!({
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": "old",
            "access_token": format!("head.{encoded}.signature"),
            "refresh_token": "CANARY-refresh-0",
            "account_id": "account-1",
        },
        "last_refresh": "2026-01-01T00:00:00Z",
    });
    std::fs::write(&path, file.to_string()).unwrap();
    let source = CredentialSource::CodexLogin {
        path: Some("auth.json".into()),
        token_endpoint: None,
    };
    let credential = opened(&credentials(folder.path(), &issuer), &source).await;
    becomes(&credential, &access(1)).await;
    let account = credential.current().await.unwrap().account().cloned();
    assert_eq!(account.unwrap(), "account-1");
    let saved: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(saved["tokens"]["account_id"], "account-1");
    assert_eq!(saved["tokens"]["id_token"], "CANARY-id-1");
    assert_eq!(saved["tokens"]["refresh_token"], "CANARY-refresh-1");
    assert!(
        saved["last_refresh"]
            .as_str()
            .unwrap()
            .starts_with("2027-01-15T08:00:0")
    );
}

#[tokio::test(start_paused = true)]
async fn codexs_api_key_is_used_when_it_has_no_login() {
    let (folder, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
    let path = folder.path().join("auth.json");
    std::fs::write(path, r#"{"OPENAI_API_KEY":"CANARY-key","tokens":null}"#).unwrap();
    let source = CredentialSource::CodexLogin {
        path: Some("auth.json".into()),
        token_endpoint: None,
    };
    let credential = opened(&credentials(folder.path(), &issuer), &source).await;
    assert_eq!(credential.current().await.unwrap().header(), "CANARY-key");
}

#[tokio::test(start_paused = true)]
async fn a_plain_login_needs_no_more_than_a_refresh_token() {
    let (folder, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
    let path = folder.path().join("login.json");
    std::fs::write(&path, r#"{"refresh_token":"CANARY-refresh-0"}"#).unwrap();
    let source = CredentialSource::Oauth {
        path: "login.json".into(),
        token_endpoint: "https://issuer.example/token".to_owned(),
        client_id: "me & you".to_owned(),
        client_secret_variable: Some("SECRET".to_owned()),
    };
    let environment = Environment::new([("SECRET", "hush=1")], folder.path());
    let credentials = Credentials {
        clock: Clock::of_runtime(),
        connect: Some(Arc::new(issuer.handle())),
        ..Credentials::new(environment, tokio::runtime::Handle::current())
    };
    let credential = opened(&credentials, &source).await;
    assert_eq!(credential.current().await.unwrap(), access(1));
    assert_eq!(
        issuer.last_body(),
        "grant_type=refresh_token&refresh_token=CANARY-refresh-0\
         &client_id=me%20%26%20you&client_secret=hush%3D1"
    );
    let saved: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(saved["expires_at"], NOW + 3600);
}
