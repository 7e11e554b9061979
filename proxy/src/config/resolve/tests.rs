use std::path::Path;

use super::*;
use crate::base::chain;
use crate::policy::ClientAuth;

const KEY: &str = "sk-ant-fake-CANARY-0123456789";

fn env(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().copied(), "/nonexistent")
}

fn resolved(text: &str, variables: &[(&str, &str)]) -> Result<ProxyConfig, ConfigError> {
    let file = Document::parse(Path::new("drawbridge.toml"), text)?;
    ProxyConfig::resolve(Some(&file), &env(variables))
}

fn error(text: &str) -> String {
    let error = resolved(text, &[("ANTHROPIC_API_KEY", KEY)]).unwrap_err();
    let hint = error.hint().map(|hint| format!("\nhint: {hint}"));
    format!("{}{}", chain(&error), hint.unwrap_or_default())
}

#[test]
fn without_a_file_there_is_anthropic_from_the_environment() {
    let config = ProxyConfig::resolve(None, &env(&[("ANTHROPIC_API_KEY", KEY)])).unwrap();
    let route = &config.routes[0];
    assert_eq!(route.name.as_str(), "anthropic");
    assert_eq!(route.upstream.url(), "https://api.anthropic.com");
    assert_eq!(config.auth_mode(), AuthMode::ApiKey);
    config.validate(None).unwrap();

    for (variable, adds_beta) in [
        (CLAUDE_CODE_OAUTH_TOKEN, true),
        ("ANTHROPIC_AUTH_TOKEN", false),
    ] {
        let config = ProxyConfig::resolve(None, &env(&[(variable, KEY)])).unwrap();
        assert_eq!(config.auth_mode(), AuthMode::Oauth, "{variable}");
        assert_eq!(config.routes[0].adds_oauth_beta, adds_beta, "{variable}");
    }

    let config = ProxyConfig::resolve(None, &env(&[])).unwrap();
    let missing = config.validate(None).unwrap_err().to_string();
    assert!(missing.contains("ANTHROPIC_API_KEY"), "{missing}");
}

#[test]
fn without_a_file_there_is_the_route_that_the_agent_needs() {
    for (preset, name, variable) in [
        (Preset::Openai, "openai", "OPENAI_API_KEY"),
        (Preset::Gemini, "gemini", "GEMINI_API_KEY"),
    ] {
        let resolve = |env| ProxyConfig::resolve_for(None, &env, preset).unwrap();
        let config = resolve(env(&[(variable, KEY)]));
        assert_eq!(config.routes.len(), 1);
        assert!(config.has_route(name) && !config.has_route("anthropic"));
        config.validate(None).unwrap();

        let missing = resolve(env(&[("ANTHROPIC_API_KEY", KEY)])).validate(None);
        let missing = missing.unwrap_err().to_string();
        assert!(missing.contains(variable), "{missing}");

        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), format!("{variable}={KEY}")).unwrap();
        let nothing: [(&str, &str); 0] = [];
        let config = resolve(Environment::new(nothing, folder.path()));
        config.validate(None).unwrap();
    }
}

#[test]
fn any_number_of_routes_the_default_one_first() {
    let config = resolved(
        r#"
        [proxy]
        port = 4000
        client-auth = "placeholder"
        workers = 2
        deadlines = { first-byte = "20m" }

        [[route]]
        preset = "openai"

        [[route]]
        name = "work"
        preset = "anthropic"
        default = true
        upstream = "https://gateway.example/base"
        credential = { source = "environment", variable = "WORK_KEY" }
        allow = ["POST /v1/messages"]
        body-bytes = 1000

        [[route]]
        preset = "gemini"

        [[route]]
        preset = "github"

        [[route]]
        name = "jira"
        upstream = "https://jira.example"
        credential = { source = "environment", variable = "JIRA_TOKEN" }
        injection = { basic = "bot" }
        allow = []

        [run]
        anything = 1
        "#,
        &[],
    )
    .unwrap();
    let names: Vec<_> = config.routes.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(
        names,
        ["work", "openai", "gemini", "github", "github-git", "jira"]
    );
    assert_eq!(
        config.routes[0].upstream.url(),
        "https://gateway.example/base"
    );
    assert_eq!(config.routes[0].allow.len(), 1);
    assert_eq!(config.routes[0].limits.body_bytes, Some(1000));
    assert_eq!(
        config.routes[4].injection,
        Injection::Basic("x-access-token".to_owned())
    );
    assert_eq!(config.routes[5].allow, []);
    assert_eq!(config.listen.port, Some(4000));
    assert_eq!(config.client_auth, ClientAuth::Placeholder);
    assert_eq!(config.deadlines.first_byte, Duration::from_secs(1200));
}

#[test]
fn a_github_of_ones_own_has_rest_and_git_on_one_host() {
    let config = resolved(
        "[[route]]\npreset = \"github\"\nupstream = \"https://git.corp\"\nallow-private = true",
        &[],
    )
    .unwrap();
    let urls: Vec<_> = config.routes.iter().map(|r| r.upstream.url()).collect();
    assert_eq!(urls, ["https://git.corp/api/v3", "https://git.corp"]);
}

#[test]
fn a_claude_login_is_sent_as_bearer_with_the_beta() {
    let config = resolved(
        "[[route]]\npreset = \"anthropic\"\ncredential = { source = \"claude-login\" }",
        &[("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")],
    )
    .unwrap();
    assert_eq!(config.routes[0].injection, Injection::Bearer);
    assert!(config.routes[0].adds_oauth_beta);
    assert_eq!(config.routes[0].upstream.url(), "http://127.0.0.1:9");
}

#[test]
fn an_unknown_credential_source_is_named_with_the_known_ones() {
    let told = error("[[route]]\npreset = \"openai\"\ncredential = { source = \"keychain\" }");
    assert!(
        told.contains("keychain") && told.contains("`claude-login`"),
        "{told}"
    );
}

#[test]
fn a_stripped_path_is_plain() {
    let route = |path: &str| format!("[[route]]\npreset = \"openai\"\nstrip-path = \"{path}\"\n");
    let config = resolved(&route("/v1"), &[]).unwrap();
    assert_eq!(config.routes[0].strip_path.as_deref(), Some("/v1"));
    for bad in ["", "/", "v1", "/v1/", "//v1", "/v1/..", "/%76", "/*"] {
        let told = error(&route(bad));
        assert!(told.contains("strip-path"), "{bad}: {told}");
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "[proxy]\nport = 4000\nbind = \"10.0.0.1\"";
    let variables = [
        ("CREDENTIAL_PROXY_PORT", "5000"),
        ("CREDENTIAL_PROXY_HOST", "127.0.0.1"),
    ];
    let config = resolved(text, &variables).unwrap();
    assert_eq!(config.listen.port, Some(5000));
    assert_eq!(config.listen.bind, Some([127, 0, 0, 1].into()));
    let wrong = resolved(text, &[("CREDENTIAL_PROXY_PORT", "many")]).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "CREDENTIAL_PROXY_PORT is not acceptable: \"many\" is not a port from 0 to 65535"
    );
}

#[test]
fn errors_name_file_key_and_accepted_values() {
    let generic = "[[route]]\nname = \"x\"\nupstream = \"https://x.example\"\n\
        credential = { source = \"environment\", variable = \"X\" }\n";
    let errors = [
        error("[proxy]\nprot = 1"),
        error("[[route]]\npreset = \"antropic\""),
        error("[proxy]\nclient-auth = \"none\""),
        error("[proxy.deadlines]\nidle = \"5\""),
        error("[proxie]"),
        error("[[route]]"),
        error("[[route]]\nname = \"v1\""),
        error(generic),
        error(&format!("{generic}injection = \"bearer\"")),
        error(&format!(
            "{generic}injection = \"bearer\"\nallow = [\"GET v1\"]"
        )),
        error(&format!(
            "{generic}injection = {{ header = \"Host\" }}\nallow = []"
        )),
        error("[[route]]\npreset = \"openai\"\nupstream = \"http://10.0.0.1\""),
        error("[[route]]\npreset = \"openai\"\n[[route]]\npreset = \"openai\""),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn class_22_a_key_in_the_wrong_place_is_not_repeated() {
    for text in [
        format!("[[route]]\npreset = \"openai\"\ncredential = \"{KEY}\""),
        format!(
            "[[route]]\npreset = \"openai\"\ncredential = {{ source = \"environment\", variable = \"X\", {KEY} = 1 }}"
        ),
    ] {
        let told = error(&text);
        assert!(
            !told.contains("CANARY") || text.contains(&format!("{KEY} =")),
            "{told}"
        );
        assert!(told.contains("credential"), "{told}");
    }
}

#[test]
fn the_examples_in_the_documentation_are_valid() {
    let page = include_str!("../../../../docs/credentials.md");
    let examples: Vec<_> = page
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(examples.len() >= 7);
    for example in examples {
        let file = Document::parse(Path::new("drawbridge.toml"), example).unwrap();
        let environment = Environment::new([("HOME", "/home/user")], "/nonexistent");
        let config = ProxyConfig::resolve(Some(&file), &environment).unwrap();
        assert!(config.routes[0].credential.is_ok(), "{example}");
    }
}
