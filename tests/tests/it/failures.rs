//! What `drawbridge run` tells a person when something fails, on the host runtime.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use drawbridge_testkit::engine::HostProcess;
use drawbridge_testkit::{
    Answer, Credential, Ended, Gate, Launcher, Model, Piece, Program, Upstream,
};
use rustix::process::{Pid, Signal, kill_process};

const HOST: [&str; 4] = ["run", "--runtime", "host", "--agent"];

/// Runs an agent on the host, as a person does.
fn run(model: &Upstream, agent: &str, more: &[&str]) -> Ended {
    let launcher = Launcher::new(Credential::ApiKey, model);
    let ended = launcher.run(&[&HOST[..], &[agent, "--prompt", "hi"], more].concat());
    launcher.assert_nothing_left();
    ended
}

/// The lines on standard error that begin with these words.
fn lines<'a>(ended: &'a Ended, start: &str) -> Vec<&'a str> {
    let lines = ended.err.lines();
    lines.filter(|line| line.starts_with(start)).collect()
}

#[test]
fn a_model_call_that_is_tried_again_is_a_warning() {
    let is_first = AtomicBool::new(true);
    let model = Model::start(move |_| {
        if is_first.swap(false, Ordering::Relaxed) {
            Answer::Reset
        } else {
            Answer::Text("well again".to_owned())
        }
    });
    let ended = run(&model, "builtin", &[]);
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "well again\n"),
        "{}",
        ended.err
    );
    let warning = "warning: a model call is tried again: the model API answered 502";
    assert_eq!(lines(&ended, warning).len(), 1, "{}", ended.err);
}

#[test]
fn a_failed_run_names_the_way_out_below_its_error() {
    let refused = |status, kind| Model::start(move |_| Answer::Error { status, kind });
    for (model, hint) in [
        (
            refused(401, "authentication_error"),
            "drawbridge doctor --check-credential",
        ),
        (refused(413, "request_too_large"), "--group"),
    ] {
        let ended = run(&model, "builtin", &[]);
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{}", ended.err);
        let mut lines = ended.err.lines();
        let error = lines.find(|line| line.starts_with("error: "));
        assert!(error.unwrap().contains("answered 4"), "{}", ended.err);
        let below = lines.next().unwrap();
        assert!(
            below.starts_with("hint: ") && below.contains(hint),
            "{}",
            ended.err
        );
        assert_eq!(lines.next(), None, "{}", ended.err);
    }
}

#[test]
fn an_agent_that_is_not_installed_can_be_installed_or_named() {
    let model = Model::start(|_| Answer::Silence);
    for agent in ["claude", "acp"] {
        let ended = run(&model, agent, &["--", "/nowhere/agent"]);
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{}", ended.err);
        let errors = lines(&ended, "error: ");
        assert_eq!(errors.len(), 1, "{}", ended.err);
        assert!(errors[0].contains("/nowhere/agent"), "{}", ended.err);
        let hints = lines(&ended, "hint: ");
        assert_eq!(hints.len(), 1, "{}", ended.err);
        assert!(hints[0].contains("-- PROGRAM"), "{}", ended.err);
    }
    assert_eq!(model.requests().len(), 0);
}

/// Stops a run in the middle of a model call, in the way that is given.
fn stopped(stop: impl FnOnce(u32), more: &[&str]) -> Ended {
    let gate = Gate::new();
    let held = gate.clone();
    let model = Model::start(move |_| Answer::Stream(vec![Piece::Wait(held.clone())]));
    let launcher = Launcher::new(Credential::ApiKey, &model);
    let args = [&HOST[..], &["builtin", "--prompt", "hi"], more].concat();
    let mut program = Program::start(&mut launcher.command(&args));
    gate.wait_for_arrival();
    stop(program.id());
    let ended = program.wait();
    launcher.assert_nothing_left();
    gate.open();
    ended
}

fn signal(id: u32, signal: Signal) {
    let id = Pid::from_raw(id.try_into().unwrap()).unwrap();
    kill_process(id, signal).unwrap();
}

/// It is told why the run is over, and not a second time that it is.
#[test]
fn a_run_that_is_stopped_has_one_error() {
    let ended = stopped(|id| signal(id, Signal::INT), &[]);
    assert_eq!(ended.code, 130, "{}", ended.err);
    let error = "error: interrupted";
    assert_eq!(lines(&ended, "error: "), [error], "{}", ended.err);

    let ended = stopped(|_| {}, &["--timeout", "2s"]);
    assert_eq!(ended.code, 5, "{}", ended.err);
    let error = "error: the run was stopped after 2 s";
    assert_eq!(lines(&ended, "error: "), [error], "{}", ended.err);

    // Somebody else did: the runner is the launcher's first descendant.
    let runner = |id| signal(HostProcess::descendants_of(id)[0].0, Signal::TERM);
    let ended = stopped(runner, &[]);
    assert_eq!(ended.code, 1, "{}", ended.err);
    let error = "error: the runner ended with exit code 130";
    assert!(
        lines(&ended, "error: ")[0].starts_with(error),
        "{}",
        ended.err
    );
}

#[test]
fn a_program_for_an_agent_that_has_none_is_refused() {
    let model = Model::start(|_| Answer::Text("hello".to_owned()));
    let ended = run(&model, "builtin", &["--", "/bin/false"]);
    assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{}", ended.err);
    assert_eq!(lines(&ended, "error: ").len(), 1, "{}", ended.err);
    assert!(lines(&ended, "hint: ")[0].contains("--agent command"));
    assert_eq!(model.requests().len(), 0);
}

/// What an agent writes could move the cursor over what we have said.
#[test]
fn nothing_an_agent_says_on_the_way_moves_the_cursor() {
    let model = Model::start(|_| Answer::Silence);
    let script = r"printf 'gone\033[2J\033[1;1Hhere\r' >&2; exit 3";
    let ended = run(&model, "command", &["--", "/bin/bash", "-c", script]);
    assert_eq!(ended.code, 1, "{}", ended.err);
    let errors = lines(&ended, "error: ");
    assert!(errors[0].contains("gone [2J [1;1Hhere"), "{}", ended.err);
    let moves = |c: char| c.is_control() && c != '\n';
    assert!(!ended.err.contains(moves), "{:?}", ended.err);
}

#[test]
fn a_conversation_that_is_lost_is_a_warning() {
    let model = Model::start(|_| Answer::Text("hello".to_owned()));
    let launcher = Launcher::new(Credential::ApiKey, &model);
    let args = [&HOST[..], &["builtin", "--prompt", "hi", "--group", "g"]].concat();
    let first = launcher.run(&args);
    assert_eq!(lines(&first, "warning: "), [""; 0], "{}", first.err);
    fs::remove_dir_all(launcher.group("g").join("home")).unwrap();
    let ended = launcher.run(&args);
    assert_eq!(ended.out, "hello\n", "{}", ended.err);
    let warnings = lines(&ended, "warning: ");
    assert_eq!(warnings.len(), 1, "{}", ended.err);
    assert!(warnings[0].contains("is lost"), "{}", ended.err);
}
