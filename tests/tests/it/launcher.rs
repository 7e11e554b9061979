//! What `drawbridge` promises, on the host runtime with the built-in agent.

use std::fs;
use std::process::Command;

use drawbridge_testkit::engine::HostProcess;
use drawbridge_testkit::launcher::{answers, errors, events};
use drawbridge_testkit::{
    Answer, Canary, Credential, FAKE_KEY, Gate, Launcher, Model, Piece, Program, Upstream,
    program_path,
};
use rustix::process::Signal;

const HOST: [&str; 5] = ["run", "--runtime", "host", "--agent", "builtin"];

fn host<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&HOST[..], args].concat()
}

fn echo() -> Upstream {
    Model::start(|turn| Answer::Text(format!("answer to {}", turn.news().trim())))
}

#[test]
fn the_answer_is_on_stdout_and_all_else_on_stderr() {
    let model = echo();
    for credential in [Credential::ApiKey, Credential::Oauth] {
        let launcher = Launcher::new(credential, &model);
        let ended = launcher.run(&host(&["--prompt", "apple"]));
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (0, "answer to apple\n"),
            "{}",
            ended.err
        );
        assert!(
            ended.err.contains("NOT isolated"),
            "it must say that nothing isolates the agent: {}",
            ended.err
        );
        launcher.assert_nothing_left();
    }
}

#[test]
fn the_prompt_can_come_from_standard_input() {
    let model = echo();
    let launcher = Launcher::new(Credential::ApiKey, &model);
    let mut command = launcher.command(&host(&["--prompt", "-"]));
    let ended = Program::run_with(&mut command, "long text");
    assert_eq!(ended.out, "answer to long text\n", "{}", ended.err);
}

#[test]
fn events_are_lines_of_json_and_the_last_one_is_exit() {
    let model = echo();
    let launcher = Launcher::new(Credential::ApiKey, &model);
    let mut run = launcher.start(&["--runtime", "host", "--agent", "builtin", "--prompt", "one"]);
    let _ = run.wait_for_answers(1);
    run.send("two");
    let _ = run.wait_for_answers(2);
    let ended = run.finish();
    let kinds: Vec<_> = events(&ended.out)
        .iter()
        .map(|e| e["type"].clone())
        .collect();
    assert_eq!(kinds.first().unwrap(), "start");
    assert_eq!(kinds.last().unwrap(), "exit");
    assert_eq!(answers(&ended.out), ["answer to one", "answer to two"]);
    assert_eq!(events(&ended.out).last().unwrap()["code"], ended.code);
}

#[test]
fn a_group_keeps_its_conversation_and_workspace() {
    let model = Model::start(|turn| {
        if turn.news().contains("write") && !turn.has_tool_result() {
            return Answer::bash("bash", "echo kept > note");
        }
        Answer::Text(format!("knows apple: {}", turn.history().contains("apple")))
    });
    let launcher = Launcher::new(Credential::ApiKey, &model);
    let run = |group, prompt| {
        let ended = launcher.run(&host(&["--group", group, "--prompt", prompt]));
        assert_eq!(ended.code, 0, "{}", ended.err);
        ended.out.trim_end().to_owned()
    };
    assert_eq!(run("a", "write apple"), "knows apple: true");
    assert_eq!(run("a", "again"), "knows apple: true");
    assert_eq!(run("b", "again"), "knows apple: false");
    let note = fs::read_to_string(launcher.group("a").join("workspace/note"));
    assert_eq!(note.unwrap(), "kept\n");
}

/// Even on the host runtime the agent gets a placeholder only.
#[test]
fn the_agent_sees_no_key_and_the_upstream_no_placeholder() {
    let model = Model::start(|turn| {
        if turn.has_tool_result() {
            Answer::Text("looked".into())
        } else {
            Answer::bash("bash", "env; cat /proc/self/environ")
        }
    });
    let launcher = Launcher::new(Credential::ApiKey, &model);
    let ended = launcher.run(&host(&["--group", "a", "--prompt", "look"]));
    assert_eq!(ended.out, "looked\n", "{}", ended.err);
    Credential::ApiKey.assert_injected(&model);
    let canary = Canary::new(FAKE_KEY);
    for request in model.requests() {
        canary.assert_absent("what the agent said", &request.body);
    }
    canary.assert_absent("the log", &ended.err);
    assert!(canary.assert_absent_below(&launcher.state()) > 0);
}

#[test]
fn a_refusal_of_the_upstream_is_an_error_and_exit_code_1() {
    let model = Model::start(|_| Answer::Error {
        status: 401,
        kind: "authentication_error",
    });
    let launcher = Launcher::new(Credential::ApiKey, &model);
    let args = ["--runtime", "host", "--agent", "builtin", "--prompt", "go"];
    let mut run = launcher.start(&args);
    run.0.close_stdin();
    let ended = run.0.wait();
    assert_eq!(
        (ended.code, answers(&ended.out)),
        (1, vec![]),
        "{}",
        ended.err
    );
    assert!(errors(&ended.out)[0].contains("401"), "{}", ended.out);
}

#[test]
fn a_killed_launcher_leaves_nothing_after_the_next_command() {
    let gate = Gate::new();
    let held = gate.clone();
    let model = Model::start(move |_| Answer::Stream(vec![Piece::Wait(held.clone())]));
    let launcher = Launcher::new(Credential::ApiKey, &model);
    let mut run = launcher.start(&["--runtime", "host", "--agent", "builtin", "--prompt", "go"]);
    gate.wait_for_arrival();
    let processes = HostProcess::descendants_of(run.0.id());
    assert!(processes.len() >= 2, "{processes:?}");
    run.0.signal(Signal::KILL);
    let _ = run.0.wait();
    assert_eq!(launcher.run(&["clean"]).code, 0);
    assert!(
        processes.iter().all(|process| !process.is_alive()),
        "{processes:?}"
    );
    launcher.assert_nothing_left();
    gate.open();
}

#[test]
fn a_terminated_launcher_stops_its_agent() {
    let gate = Gate::new();
    let held = gate.clone();
    let model = Model::start(move |_| Answer::Stream(vec![Piece::Wait(held.clone())]));
    let launcher = Launcher::new(Credential::ApiKey, &model);
    let mut run = launcher.start(&["--runtime", "host", "--agent", "builtin", "--prompt", "go"]);
    gate.wait_for_arrival();
    run.0.signal(Signal::TERM);
    let ended = run.0.wait();
    assert_eq!(ended.code, 130, "{}", ended.err);
    launcher.assert_nothing_left();
    gate.open();
}

#[test]
fn an_unknown_key_or_value_in_the_configuration_is_named_with_its_file() {
    let model = echo();
    let launcher = Launcher::new(Credential::ApiKey, &model);
    let file = launcher.working_directory().join("drawbridge.toml");
    let cases = [
        ("[run]\nagnet = \"builtin\"\n", ["agnet", "agent"]),
        ("[run]\nnetwork = \"open\"\n", ["open", "sealed"]),
        ("[proxxy]\nport = 1\n", ["proxxy", "proxy"]),
        ("[proxy]\nportt = 1\n", ["portt", "proxy"]),
    ];
    for (text, words) in cases {
        fs::write(&file, text).unwrap();
        let ended = launcher.run(&host(&["--prompt", "go"]));
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (2, ""),
            "{text}: {}",
            ended.err
        );
        let is_named = |word: &&str| ended.err.contains(*word);
        assert!(words.iter().all(is_named), "{text}: {}", ended.err);
        assert!(ended.err.contains("drawbridge.toml"), "{}", ended.err);
    }
    assert_eq!(model.requests().len(), 0);
}

#[test]
fn an_empty_prompt_and_a_bad_group_are_refused() {
    let model = echo();
    let launcher = Launcher::new(Credential::ApiKey, &model);
    for args in [
        ["--prompt", "  "].as_slice(),
        &["--prompt", "x", "--group", "../up"],
    ] {
        let ended = launcher.run(&host(args));
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (2, ""),
            "{args:?}: {}",
            ended.err
        );
        assert!(ended.err.starts_with("error: "), "{}", ended.err);
    }
}

#[test]
fn a_command_agent_gets_the_prompt_and_its_failure_is_reported() {
    let model = echo();
    let launcher = Launcher::new(Credential::ApiKey, &model);
    let run = |script: &str| {
        let start = [
            "run",
            "--runtime",
            "host",
            "--agent",
            "command",
            "--prompt",
            "hello",
            "--",
        ];
        launcher.run(&[&start[..], &["sh", "-c", script]].concat())
    };
    let ended = run("tr a-z A-Z");
    assert_eq!(
        (ended.code, ended.out.trim_end()),
        (0, "HELLO"),
        "{}",
        ended.err
    );
    let ended = run("echo no such luck >&2; exit 7");
    assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{}", ended.err);
    assert!(ended.err.contains("no such luck"), "{}", ended.err);
}

#[test]
fn help_goes_to_stdout_and_a_usage_error_to_stderr() {
    let run = |args: &[&str]| Program::run(Command::new(program_path("drawbridge-dup")).args(args));
    let help = run(&["--help"]);
    assert!(
        help.code == 0 && help.out.contains("run") && help.err.is_empty(),
        "{help:?}"
    );
    let wrong = run(&["fly"]);
    assert!(
        wrong.code == 2 && wrong.out.is_empty() && wrong.err.contains("fly"),
        "{wrong:?}"
    );
}

/// The caller's key is not for a demonstration, and must not be in its output.
#[test]
fn the_demo_shows_its_facts_and_uses_no_key_of_the_caller() {
    let model = echo();
    let launcher = Launcher::new(Credential::Oauth, &model);
    let mut command = launcher.command(&["demo", "--runtime", "host"]);
    let ended = Program::run(&mut command);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    for fact in [
        "NOT isolated",
        "ANTHROPIC_API_KEY=dbs_",
        "x-api-key: sk-ant-fake-****",
    ] {
        assert!(ended.out.contains(fact), "{}", ended.out);
    }
    assert_eq!(model.requests().len(), 0);
    for key in [FAKE_KEY, Credential::Oauth.secret()] {
        Canary::new(key).assert_absent("the demo's output", ended.out.clone() + &ended.err);
    }
    launcher.assert_nothing_left();
}

/// opencode serves itself on a port, which nothing on the host may have.
#[test]
fn opencode_is_not_started_under_landlock() {
    let model = echo();
    let launcher = Launcher::new(Credential::ApiKey, &model);
    let args = [
        "run",
        "--runtime",
        "host",
        "--agent",
        "opencode",
        "--prompt",
        "go",
    ];
    let ended = launcher.run(&args);
    assert_eq!((ended.code, ended.out.as_str()), (3, ""), "{}", ended.err);
    assert!(ended.err.contains("hint: use a container"), "{}", ended.err);
}
