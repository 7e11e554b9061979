use std::path::Path;

use drawbridge_proxy::config::ConfigFile;

use super::*;

struct Flags(Vec<(Key, &'static str)>);

impl TypedSettings for Flags {
    fn typed(&self, key: Key) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| *name == key);
        found.map(|(_, text)| *text)
    }
}

fn resolve(
    flags: Vec<(Key, &'static str)>,
    environment: &[(&str, &str)],
    file: &str,
) -> Result<(RunSettings, Vec<Shown>)> {
    let file = format!("[run]\n{file}");
    let file = ConfigFile::parse(Path::new("/etc/drawbridge.toml"), &file).unwrap();
    RunSettings::resolve(&Layers {
        flags: &Flags(flags),
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
