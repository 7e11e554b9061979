use std::path::Path;

use drawbridge_settings::Document;

use super::run::Sources;
use super::*;
use crate::error::Result;

fn resolve(
    flags: Vec<(Key, &'static str)>,
    environment: &[(&str, &str)],
    file: &str,
) -> Result<(RunSettings, Vec<SettingRow>)> {
    let file = format!("[run]\n{file}");
    let file = Document::parse(Path::new("/etc/drawbridge.toml"), &file).unwrap();
    RunSettings::resolve(&Sources {
        flags: &FlagValues::new(&flags),
        environment: &|name| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        },
        file: Some(&file),
    })
}

fn refusal(flags: Vec<(Key, &'static str)>, environment: &[(&str, &str)], file: &str) -> String {
    let error = resolve(flags, environment, file).unwrap_err();
    assert_eq!(error.exit().code(), 2);
    format!("{error}\nhint: {}", error.hint_text().unwrap_or_default())
}

#[test]
fn a_flag_wins_over_the_environment_which_wins_over_the_file() {
    let file = "memory = '1g'\ncpus = 1\npids = 64";
    let environment = [("DRAWBRIDGE_MEMORY", "2g"), ("DRAWBRIDGE_CPUS", "1.5")];
    let (settings, shown) = resolve(vec![(Key::Memory, "3g")], &environment, file).unwrap();
    assert_eq!(settings.memory.to_string(), "3g");
    assert_eq!(settings.cpus.to_string(), "1.5");
    assert_eq!(settings.pids.get(), 64);
    let lines: Vec<_> = shown
        .iter()
        .map(|line| format!("{} = {} ({})", line.key, line.value, line.source))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    runtime = auto (default)
    agent = claude (default)
    image = drawbridge/claude:0.1.0 (default)
    network = sealed (default)
    model =  (default)
    memory = 3g (--memory)
    cpus = 1.5 ($DRAWBRIDGE_CPUS)
    pids = 64 (/etc/drawbridge.toml)
    tmp-size = 512m (default)
    tmp-exec = true (default)
    sandbox = landlock (default)
    timeout = 2h (default)
    idle-timeout = 30m (default)
    waive = none (default)
    mask-secrets = true (default)
    file-size = 16g (default)
    user = caller (default)
    on-request = none (default)
    "#);
}

#[test]
fn unknown_names_are_refused_with_place_and_accepted_values() {
    insta::assert_snapshot!(refusal(vec![(Key::Runtime, "dokcer")], &[], ""), @r#"
    --runtime: value "dokcer" is not valid
    hint: accepted is one of auto, docker, podman, apple, host
    "#);
    insta::assert_snapshot!(refusal(vec![], &[("DRAWBRIDGE_AGENT", "clod")], ""), @r#"
    environment variable DRAWBRIDGE_AGENT: value "clod" is not valid
    hint: accepted is one of claude, builtin, codex, opencode, gemini, acp, command
    "#);
    insta::assert_snapshot!(refusal(vec![], &[], "network = 'none'"), @r#"
    /etc/drawbridge.toml: key "network" in [run]: value "none" is not valid
    hint: accepted is one of sealed, bridge
    "#);
    insta::assert_snapshot!(refusal(vec![], &[], "memroy = '1g'"), @r#"
    /etc/drawbridge.toml: unknown key "memroy" in [run]
    hint: accepted keys are runtime, agent, image, network, model, memory, cpus, pids, tmp-size, tmp-exec, sandbox, timeout, idle-timeout, waive, mask-secrets, file-size, user, on-request
    "#);
    insta::assert_snapshot!(refusal(vec![], &[], "memory = ['1g']"), @r#"
    /etc/drawbridge.toml: key "memory" in [run] is a array, not a single value
    hint:
    "#);
}

#[test]
fn zero_and_empty_are_not_absent() {
    for (key, text) in [
        (Key::Timeout, "0s"),
        (Key::Timeout, ""),
        (Key::Pids, "0"),
        (Key::Memory, ""),
        (Key::Image, ""),
    ] {
        resolve(vec![(key, text)], &[], "").unwrap_err();
    }
    let (settings, _) = resolve(vec![(Key::IdleTimeout, "none")], &[], "").unwrap();
    assert_eq!(settings.idle_timeout, None);
}

/// An alternative that is a value itself, and not the name of one.
fn is_name(alternative: &&str) -> bool {
    let mut letters = alternative.chars();
    !alternative.is_empty() && letters.all(|letter| letter.is_ascii_lowercase())
}

#[test]
fn the_help_names_accepted_values_only() {
    for key in Key::ALL {
        for name in key.setting().value.split('|').filter(is_name) {
            let accepted = RunSettings::fixed(&[(*key, name)]);
            assert!(accepted.is_ok(), "{key:?} {name}");
        }
    }
    for key in ServeKey::ALL {
        for name in key.setting().value.split('|').filter(is_name) {
            let accepted = ServeSettings::resolve(&FlagValues::new(&[(*key, name)]), None);
            assert!(accepted.is_ok(), "{key:?} {name}");
        }
    }
}

/// The texts between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_documents_have_the_keys_and_defaults_of_the_tables() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().map(|line| line.trim().split('|').collect());
    let rows: Vec<Vec<&str>> = rows.filter(|cells: &Vec<_>| cells.len() > 3).collect();

    let serve = rows.iter().find(|cells| cells[1].trim() == "`[serve]`");
    let keys: Vec<_> = ServeKey::ALL.iter().map(|key| key.name()).collect();
    assert!(quoted(serve.unwrap()[2]).starts_with(&keys), "{keys:?}");

    let mut compared = 0;
    for cells in &rows {
        let keys = quoted(cells[1]).into_iter();
        let keys: Option<Vec<_>> = keys
            .map(|flag| Key::find(flag.strip_prefix("--")?, Scope::Table))
            .collect();
        let Some(keys) = keys.filter(|keys| !keys.is_empty()) else {
            continue;
        };
        let defaults: Vec<_> = keys
            .iter()
            .map(|key| match key.setting().default {
                setting::Default::Text(text) => text,
                _ => panic!("{key:?} has no default that a document could have"),
            })
            .collect();
        assert_eq!(quoted(cells[2]), defaults, "{cells:?}");
        compared += keys.len();
    }
    assert!(compared >= 6, "the table of limits is not found");
}
