//! `drawbridge.toml` and `drawbridge config`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use drawbridge_testkit::{Ended, Program};

use super::TestMachine;

const FILE: &str = "# ours\n[run]\nmemory = '1g' # enough\n";

impl TestMachine {
    fn config(&self, args: &[&str]) -> Ended {
        self.call(&[&["config"], args].concat())
    }
}

#[test]
fn the_configuration_file_is_read_and_shown_with_its_source() {
    let machine = TestMachine::new("answer");
    let config = |text: &str| fs::write(machine.path("cwd/drawbridge.toml"), text).unwrap();
    config("[run]\nmemory = '1g'\n[agent.claude]\npids = 64\n[serve]\nmax-runs = 2\n");
    let ended = machine.config(&["show", "--cpus", "1"]);
    assert!(ended.out.contains("memory = \"1g\"  # "), "{ended:?}");
    assert!(ended.out.contains("/drawbridge.toml\n"), "{ended:?}");
    assert!(ended.out.contains("cpus = \"1\"  # --cpus\n"), "{ended:?}");
    let of_agent = "/drawbridge.toml [agent.claude]\n";
    assert!(ended.out.contains(of_agent), "{ended:?}");
    assert!(ended.out.contains("serve.max-runs = \"2\""), "{ended:?}");
}

#[test]
fn a_configuration_that_is_not_valid_stops_every_command() {
    let machine = TestMachine::new("answer");
    let config = |text: &str| fs::write(machine.path("cwd/drawbridge.toml"), text).unwrap();
    for (text, complaint) in [
        ("[run]\nmemroy = '1g'\n", "unknown key \"memroy\" in [run]"),
        (
            "[serve]\nmax-rums = 1\n",
            "unknown key \"max-rums\" in [serve]",
        ),
        (
            "[serve]\nmax-runs = 0\n",
            "key \"max-runs\" in [serve]: value \"0\"",
        ),
        (
            "[serve]\ndrain = '1 h'\n",
            "key \"drain\" in [serve]: value \"1 h\"",
        ),
        (
            "[agent.claude]\nagent = 'codex'\n",
            "unknown key \"agent\" in [agent.claude]",
        ),
        (
            "[agent.codex]\nmemory = '1'\n",
            "key \"memory\" in [agent.codex]: value \"1\"",
        ),
        ("[agent.clod]\n", "there is no agent for [agent.clod]"),
        ("[rum]\n", "unknown field `rum`"),
        ("not toml", "drawbridge.toml line 1"),
    ] {
        config(text);
        machine.config(&["show"]).assert_error(2, complaint);
        machine.run(&[]).assert_error(2, complaint);
    }
    config("[run]\nmemroy = '1g'\n");
    machine
        .run(&[])
        .assert_error(2, "accepted keys are runtime,");
    let clear = "[[route]]\npreset = 'anthropic'\nupstream = 'http://api.example'\n";
    for (text, hint) in [
        (clear, "hint: use https, or "),
        ("[rum]\n", "hint: correct it in an editor"),
        ("not toml", "hint: correct it in an editor"),
    ] {
        config(text);
        let ended = machine.run(&[]);
        assert_eq!(ended.code, 2, "{ended:?}");
        let lines: Vec<_> = ended.err.lines().collect();
        assert!(
            lines[0].starts_with("error: ") && !lines[0].contains("hint"),
            "{ended:?}"
        );
        assert!(lines.len() == 2 && lines[1].starts_with(hint), "{ended:?}");
    }
    assert!(!machine.path("bin/calls").exists(), "the engine was asked");
}

#[test]
fn a_value_is_set_and_nothing_else_is_changed() {
    let machine = TestMachine::new("answer");
    let file = machine.path("cwd/drawbridge.toml");
    fs::write(&file, FILE).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    for (key, value) in [
        ("memory", "2g"),
        ("agent.codex.memory", "3g"),
        ("serve.max-runs", "7"),
    ] {
        let ended = machine.config(&["set", key, value]);
        assert_eq!((ended.code, ended.out.as_str()), (0, ""), "{ended:?}");
        assert_eq!(machine.config(&["get", key]).out, format!("{value}\n"));
    }
    assert_eq!(
        machine.read("cwd/drawbridge.toml"),
        "# ours\n[run]\nmemory = \"2g\" # enough\n\n[agent.codex]\nmemory = \"3g\"\n\n\
         [serve]\nmax-runs = 7\n"
    );
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
    let names: Vec<_> = fs::read_dir(machine.path("cwd")).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    // A run of the agent goes by its own value, and every other one does not.
    machine.run(&[]);
    let calls = machine.read("bin/calls");
    assert!(calls.contains(" --memory 2g "), "{calls}");
    let listed = machine.config(&["list", "--agent", "codex"]).out;
    assert!(listed.contains("memory = \"3g\""), "{listed}");
    assert_eq!(machine.config(&["unset", "memory"]).code, 0);
    assert_eq!(machine.config(&["get", "memory"]).out, "4g\n");
}

#[test]
fn what_is_not_acceptable_is_not_written() {
    let machine = TestMachine::new("answer");
    let file = machine.path("cwd/drawbridge.toml");
    fs::write(&file, FILE).unwrap();
    for (key, value, complaint) in [
        ("memroy", "1g", "accepted keys are runtime,"),
        ("proxy.bind", "127.0.0.1", "serve.max-runs"),
        ("memory", "lots", "accepted is "),
        ("memory", "", "value \"\" is not valid"),
        ("serve.drain", "soon", "accepted is a time"),
        ("agent.claude.runtime", "dokcer", "auto, docker, podman"),
    ] {
        machine
            .config(&["set", key, value])
            .assert_error(2, complaint);
        assert_eq!(machine.read("cwd/drawbridge.toml"), FILE, "{key} {value}");
    }
    // A file that is wrong elsewhere is mended first, which `set` can do.
    fs::write(&file, "[run]\nmemory = 'lots'\n").unwrap();
    let refused = machine.config(&["set", "cpus", "1"]);
    refused.assert_error(2, "value \"lots\" is not valid");
    assert_eq!(machine.config(&["set", "memory", "1g"]).code, 0);
    // As is a misspelt key, of which there may be more than one.
    fs::write(&file, "[run]\nmemroy = '1g'\n[serve]\nmax-rums = 1\n").unwrap();
    for (key, left) in [
        ("memroy", "[run]\n[serve]\nmax-rums = 1\n"),
        ("serve.max-rums", "[run]\n[serve]\n"),
    ] {
        let ended = machine.config(&["unset", key]);
        assert_eq!(
            (ended.code, machine.read("cwd/drawbridge.toml").as_str()),
            (0, left),
            "{ended:?}"
        );
    }
    machine
        .config(&["unset", "memroy"])
        .assert_error(2, "there is no setting");
    fs::write(&file, "[run\n").unwrap();
    let refused = machine.config(&["set", "cpus", "1"]);
    refused.assert_error(2, "cannot be read");
    refused.assert_error(2, "hint: correct it in an editor");
    assert_eq!(machine.read("cwd/drawbridge.toml"), "[run\n");
}

#[test]
fn the_file_in_use_is_the_one_that_is_changed() {
    let machine = TestMachine::new("answer");
    let here = machine.path("cwd/drawbridge.toml");
    let of_user = machine.path("cwd/.config/drawbridge/drawbridge.toml");
    let path = || machine.config(&["path"]).out;
    assert_eq!(path(), format!("{}\n", here.display()));
    assert_eq!(machine.config(&["set", "--user", "cpus", "1"]).code, 0);
    assert_eq!(path(), format!("{}\n", of_user.display()));
    assert_eq!(machine.config(&["set", "pids", "64"]).code, 0);
    assert!(!here.exists());
    // A link to the file stays one.
    symlink(&of_user, &here).unwrap();
    assert_eq!(machine.config(&["set", "cpus", "2"]).code, 0);
    assert!(here.is_symlink());
    assert_eq!(
        fs::read_to_string(&of_user).unwrap(),
        "[run]\ncpus = 2\npids = 64\n"
    );
    let set = ["config", "set", "cpus", "1"];
    let ended = Program::run(machine.command(&set).env("DRAWBRIDGE_CPUS", "2"));
    assert!(
        ended.err.contains("DRAWBRIDGE_CPUS wins over it"),
        "{ended:?}"
    );
}

#[test]
fn two_who_set_at_once_lose_nothing() {
    let machine = TestMachine::new("answer");
    let keys = ["memory", "tmp-size", "file-size"];
    let all = ["claude", "codex", "gemini", "acp"];
    let names = all.map(|agent| keys.map(|key| format!("agent.{agent}.{key}")));
    let names = names.as_flattened();
    let start = |name: &String| {
        let set = ["config", "set", name, "1g"];
        Program::start(&mut machine.command(&set))
    };
    let programs: Vec<_> = names.iter().map(start).collect();
    for mut program in programs {
        assert_eq!(program.wait().code, 0);
    }
    for name in names {
        assert_eq!(machine.config(&["get", name]).out, "1g\n", "{name}");
    }
}

/// An agent writes to its workspace, and would give orders to this machine.
#[test]
fn no_configuration_is_read_from_where_agents_write() {
    let machine = TestMachine::new("answer");
    assert_eq!(machine.run(&["--group", "g"]).code, 0);
    let workspace = machine.path("state/groups/g/workspace");
    fs::write(
        workspace.join("drawbridge.toml"),
        "[run]\nruntime = 'host'\n",
    )
    .unwrap();
    for args in [
        &["run", "--prompt", "hi"][..],
        &["serve"],
        &["config", "show"],
    ] {
        let ended = Program::run(machine.command(args).current_dir(&workspace));
        ended.assert_error(2, "is in the state folder");
    }
}

/// Wherever the files lead that a command here reads.
#[test]
fn what_a_command_here_reads_is_mounted_for_nobody_to_write() {
    for read in [
        "cwd/drawbridge.toml",
        "cwd/.config/drawbridge/drawbridge.toml",
        "cwd/.env",
    ] {
        let machine = TestMachine::new("answer");
        // Not below /tmp: an image has that path itself.
        let outside = tempfile::tempdir_in("/var/tmp").unwrap();
        let folder = machine.path("cwd/.config/drawbridge");
        fs::create_dir_all(&folder).unwrap();
        let list = serde_json::json!({
            "allowedRoots": [{ "path": outside.path(), "allowReadWrite": true }],
            "blockedPatterns": [], "nonMainReadOnly": false
        });
        fs::write(folder.join("mount-allowlist.json"), list.to_string()).unwrap();
        symlink(outside.path().join("settings"), machine.path(read)).unwrap();
        let mount = format!("{}:shared:rw", outside.path().display());
        let ended = machine.run(&["--runtime", "docker", "--mount", &mount]);
        ended.assert_error(2, "may not be written to: the next command would read it");
        assert!(ended.err.contains(read), "{ended:?}");
    }
}

#[test]
fn arguments_for_the_agent_travel_in_its_document_or_are_refused() {
    let machine = TestMachine::new("answer");
    let added = ["--agent-arg", "--fallback-model", "--agent-arg=small"];
    assert_eq!(machine.run(&added).code, 0);
    let input: serde_json::Value = serde_json::from_str(&machine.read("bin/input")).unwrap();
    let args = &input["drawbridge"]["agent"]["extraArgs"];
    assert_eq!(args, &serde_json::json!(["--fallback-model", "small"]));
    for (args, cause, hint) in [
        (
            &["--agent-arg=--model"][..],
            "--agent-arg: \"--model\" is set by drawbridge",
            "leave it out",
        ),
        (
            &["--agent", "builtin", "--agent-arg", "-x"],
            "--agent-arg: the agent builtin takes no arguments",
            "choose another agent",
        ),
        (
            &["--agent", "acp", "--agent-arg", "-x", "--", "true"],
            "--agent-arg: the agent acp takes no arguments",
            "behind two dashes",
        ),
        (
            &["--agent-arg", "hello"],
            "is not a flag",
            "begin with a flag",
        ),
    ] {
        let ended = machine.run(args);
        ended.assert_error(2, cause);
        ended.assert_error(2, hint);
    }
    fs::write(
        machine.path("cwd/drawbridge.toml"),
        "[run]\nagent-arg = '-x'\n",
    )
    .unwrap();
    machine
        .run(&[])
        .assert_error(2, "unknown key \"agent-arg\"");
}
