//! Which credential a run needs: the one of its agent's model API.

use drawbridge_proxy::config::{CredentialError, Preset, ProxyConfig};
use drawbridge_settings::{Document, Environment};
use drawbridge_shared::protocol::AgentKind;

use crate::config::RunSettings;
use crate::error::{Context, Error, Result};

/// The proxy's configuration for a run. Without routes in the file, the run gets
/// the one route that its agent needs and no other.
///
/// # Errors
/// The configuration is not valid, the agent's route is not in it, or there is
/// no usable credential.
pub(crate) fn resolve(
    settings: &RunSettings,
    environment: &Environment,
    file: Option<&Document>,
) -> Result<ProxyConfig> {
    let preset = preset(settings);
    let proxy = ProxyConfig::resolve_for(file, environment, preset)
        .context(|| Error::usage("the proxy's configuration is not valid"))?;
    require_route(settings.agent, preset, &proxy)?;
    proxy
        .validate(named_route(preset))
        .map_err(|error| refusal(preset, error))?;
    Ok(proxy)
}

/// The vendor whose API the agent uses.
fn preset(settings: &RunSettings) -> Preset {
    match settings.agent {
        AgentKind::Codex => Preset::Openai,
        AgentKind::Gemini => Preset::Gemini,
        // Its models are named by vendor.
        AgentKind::Opencode if is_openai_model(settings) => Preset::Openai,
        _ => Preset::Anthropic,
    }
}

fn is_openai_model(settings: &RunSettings) -> bool {
    let model = settings.model.as_deref().unwrap_or_default();
    model.starts_with("openai/")
}

/// The route that the agent names; `None` for one that uses the default route.
fn named_route(preset: Preset) -> Option<&'static str> {
    match preset {
        Preset::Openai | Preset::Gemini => preset.route_name(),
        _ => None,
    }
}

fn require_route(agent: AgentKind, preset: Preset, proxy: &ProxyConfig) -> Result<()> {
    match named_route(preset) {
        Some(name) if !proxy.has_route(name) => Err(Error::not_started(format!(
            "no route \"{name}\", which the agent {} needs",
            agent.name()
        ))
        .hint(format!(
            "add a [[route]] with preset = \"{name}\" to drawbridge.toml"
        ))),
        _ => Ok(()),
    }
}

fn refusal(preset: Preset, error: CredentialError) -> Error {
    match error {
        CredentialError::NoSource(reason) => {
            let variables = preset.variables().join(" or ");
            Error::not_started("no credential for the model API")
                .hint(format!("set {variables}, or write it to .env"))
                .caused_by(reason)
        }
        CredentialError::Unusable { route, problem } => {
            let hint = problem.hint();
            let hint = hint.unwrap_or("fix it or configure another source");
            Error::not_started(format!("no usable credential for the route {route}"))
                .hint(hint.to_owned())
                .caused_by(problem)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use drawbridge_shared::exit::Exit;

    use super::*;
    use crate::config::Key;

    fn resolved(agent: &str, model: &str, variables: &[(&str, &str)]) -> Result<ProxyConfig> {
        let settings = RunSettings::fixed(&[(Key::Agent, agent), (Key::Model, model)]).unwrap();
        let environment = Environment::new(variables.iter().copied(), "/nonexistent");
        resolve(&settings, &environment, None)
    }

    #[test]
    fn every_agent_gets_the_credential_of_its_own_vendor() {
        let variables = [
            ("ANTHROPIC_API_KEY", "a"),
            ("OPENAI_API_KEY", "o"),
            ("GEMINI_API_KEY", "g"),
        ];
        for (agent, model, route) in [
            ("claude", "", "anthropic"),
            ("builtin", "", "anthropic"),
            ("codex", "", "openai"),
            ("gemini", "", "gemini"),
            ("opencode", "", "anthropic"),
            ("opencode", "openai/gpt-6", "openai"),
            ("command", "", "anthropic"),
        ] {
            let proxy = resolved(agent, model, &variables).unwrap();
            assert!(proxy.has_route(route), "{agent}");
            assert_eq!(
                proxy.routes.len(),
                1,
                "{agent}: a key that it has no use for"
            );
        }
    }

    #[test]
    fn a_missing_credential_is_named_by_the_agents_vendor() {
        let error = resolved("codex", "", &[("ANTHROPIC_API_KEY", "a")]).unwrap_err();
        insta::assert_snapshot!(
            format!("{}\n{}", error.one_line(), error.hint_text().unwrap()),
            @r"
        no credential for the model API: OPENAI_API_KEY is not set in the environment or in /nonexistent/.env
        set OPENAI_API_KEY, or write it to .env
        "
        );
    }

    #[test]
    fn a_file_without_the_agents_route_is_refused() {
        let settings = RunSettings::fixed(&[(Key::Agent, "gemini")]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("drawbridge.toml"),
            "[[route]]\npreset = \"anthropic\"\n",
        )
        .unwrap();
        let environment = Environment::new([("ANTHROPIC_API_KEY", "a")], folder.path());
        let file = Document::find(&environment).unwrap();
        let error = resolve(&settings, &environment, file.as_ref()).unwrap_err();
        insta::assert_snapshot!(
            format!("{}\n{}", error.one_line(), error.hint_text().unwrap()),
            @r#"
        no route "gemini", which the agent gemini needs
        add a [[route]] with preset = "gemini" to drawbridge.toml
        "#
        );
    }

    #[test]
    fn a_value_that_no_request_could_carry_is_refused_with_the_reason() {
        for (value, reason) in [
            (
                "sk-ant-fake\nabcdef",
                "character 12 is not a printable ASCII character",
            ),
            (
                "sk-ant-f\u{e4}ke",
                "character 9 is not a printable ASCII character",
            ),
            (" sk-ant-fake", "it starts or ends with a space"),
            ("sk-ant-fake ", "it starts or ends with a space"),
        ] {
            for (agent, route, variable) in [
                ("claude", "anthropic", "ANTHROPIC_API_KEY"),
                ("claude", "anthropic", "CLAUDE_CODE_OAUTH_TOKEN"),
                ("codex", "openai", "OPENAI_API_KEY"),
                ("gemini", "gemini", "GEMINI_API_KEY"),
            ] {
                let error = resolved(agent, "", &[(variable, value)]).unwrap_err();
                assert_eq!(
                    error.one_line(),
                    format!(
                        "no usable credential for the route {route}: \
                         the variable {variable} is not a credential: {reason}"
                    )
                );
                assert_eq!(error.exit(), Exit::NotStarted);
                assert!(error.hint_text().is_some());
            }
        }
    }

    /// Resolves for an agent that uses `openai`, with this configuration file.
    fn with_file(folder: &Path, text: &str) -> Result<ProxyConfig> {
        std::fs::write(folder.join("drawbridge.toml"), text).unwrap();
        let settings = RunSettings::fixed(&[(Key::Agent, "codex")]).unwrap();
        let environment = Environment::new([("OPENAI_API_KEY", "o")], folder);
        let file = Document::find(&environment).unwrap();
        resolve(&settings, &environment, file.as_ref())
    }

    #[test]
    fn another_routes_credential_may_be_missing_but_not_broken() {
        let folder = tempfile::tempdir().unwrap();
        let openai = "[[route]]\npreset = \"openai\"\n";
        let gemini = "[[route]]\npreset = \"gemini\"\n\
                      credential = { source = \"file\", path = \"key\" }\n";
        let both = [openai, gemini].concat();
        with_file(folder.path(), &both).unwrap();
        std::fs::write(folder.path().join("key"), "two\nlines\n").unwrap();
        let error = with_file(folder.path(), &both).unwrap_err();
        let place = folder.path().join("key").display().to_string();
        assert_eq!(
            error.one_line(),
            format!(
                "no usable credential for the route gemini: the file {place} is not a \
                 credential: character 4 is not a printable ASCII character"
            )
        );
        std::fs::write(folder.path().join("key"), "one line\n").unwrap();
        with_file(folder.path(), &both).unwrap();
    }

    #[test]
    fn the_agents_own_credential_has_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        for credential in [
            "{ source = \"environment\", variable = \"UNSET\" }",
            "{ source = \"dotenv\", variable = \"UNSET\" }",
            "{ source = \"file\", path = \"missing\" }",
        ] {
            let route = format!("[[route]]\npreset = \"openai\"\ncredential = {credential}\n");
            let error = with_file(folder.path(), &route).unwrap_err();
            let line = error.one_line();
            let prefix = "no usable credential for the route openai: ";
            assert!(line.starts_with(prefix), "{line}");
            assert!(error.hint_text().is_some(), "{line}");
        }
    }
}
