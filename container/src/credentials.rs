//! Which credential a run needs: the one of its agent's model API.

use drawbridge_proxy::config::{ConfigFile, Environment, Preset, ProxyConfig};
use drawbridge_shared::protocol::AgentKind;

use crate::config::RunSettings;
use crate::error::{Context, Error, Result};

/// The proxy's configuration for a run. Without routes in the file, the run gets
/// the one route that its agent needs and no other.
///
/// # Errors
/// The configuration is not valid, the agent's route is not in it, or there is
/// no credential.
pub(crate) fn resolve(
    settings: &RunSettings,
    environment: &Environment,
    file: Option<&ConfigFile>,
) -> Result<ProxyConfig> {
    let preset = preset(settings);
    let proxy = ProxyConfig::resolve_for(file, environment, preset)
        .context(|| Error::usage("the proxy's configuration is not valid"))?;
    require_route(settings.agent, preset, &proxy)?;
    proxy.require_credentials().context(|| {
        let variables = preset.variables().join(" or ");
        Error::not_started("no credential for the model API")
            .hint(format!("set {variables}, or write it to .env"))
    })?;
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

/// These agents name their route; the others use the default one.
fn require_route(agent: AgentKind, preset: Preset, proxy: &ProxyConfig) -> Result<()> {
    match preset {
        Preset::Openai | Preset::Gemini => {}
        _ => return Ok(()),
    }
    match preset.route_name() {
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

#[cfg(test)]
mod tests {
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
        let file = ConfigFile::find(&environment).unwrap();
        let error = resolve(&settings, &environment, file.as_ref()).unwrap_err();
        insta::assert_snapshot!(
            format!("{}\n{}", error.one_line(), error.hint_text().unwrap()),
            @r#"
        no route "gemini", which the agent gemini needs
        add a [[route]] with preset = "gemini" to drawbridge.toml
        "#
        );
    }
}
