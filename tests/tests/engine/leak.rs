//! The real key is nowhere that an agent, or anybody on the host, can look.

use std::fs;

use drawbridge_testkit::engine::{HostProcess, docker_ok};
use drawbridge_testkit::launcher::Credential;
use drawbridge_testkit::{Answer, Canary, Gate, Launcher, Model, Piece};

use crate::{Agent, Setting, Test};

pub(crate) const TESTS: &[Test] = &[];

/// How every session's token begins.
const TOKEN_START: &str = "dbs_";

pub(crate) const IN_EVERY_SETTING: &[Test] = &[("the_key_is_nowhere", the_key_is_nowhere)];

fn the_key_is_nowhere(setting: Setting) {
    let gate = Gate::new();
    let held = gate.clone();
    let tool = setting.agent.shell_tool();
    let model = Model::start(move |turn| {
        if turn.has_tool_result() {
            Answer::Stream(vec![Piece::Wait(held.clone()), Piece::Text("done".into())])
        } else {
            // What the agent itself can see goes into its own transcript.
            Answer::bash(
                tool,
                "env; cat /proc/*/environ /proc/*/cmdline; mount; ls -laR /tmp /run",
            )
        }
    });
    let launcher = Launcher::new(setting.credential, &model);
    let args = [&setting.flags()[..], &["--group", "g", "--prompt", "look"]].concat();
    let run = launcher.start(&args);
    gate.wait_for_arrival();

    let canary = Canary::new(setting.credential.secret());
    search(setting, &canary, &launcher);
    assert!(
        canary.assert_absent_below(&launcher.state()) > 0,
        "the search read no file"
    );
    gate.open();
    let _ = run.wait_for_answers(1);
    let ended = run.finish();
    canary.assert_absent("the launcher's output", &ended.out);
    canary.assert_absent("the launcher's log", &ended.err);
    assert!(
        canary.assert_absent_below(&launcher.state()) > 0,
        "the search read no file"
    );
    the_upstream_saw_the_key_and_no_placeholder(setting.credential, &model);
}

/// Searches the running container from outside and from inside.
fn search(setting: Setting, canary: &Canary, launcher: &Launcher) {
    let container = launcher.container();
    canary.assert_absent("docker inspect", container.inspect());
    canary.assert_absent("docker logs", logs(&container.0));
    let processes = container.processes();
    assert!(processes.len() >= 2, "{processes:?}");
    for process in &processes {
        canary.assert_absent(
            "a process's environment in the container",
            process.environment(),
        );
    }
    for process in HostProcess::all() {
        canary.assert_absent("a command line on the host", process.command_line());
    }
    let inside = container.shell(
        "cat /proc/*/environ /proc/*/cmdline; find /tmp /run /dev/shm -type f -exec cat {} +",
    );
    canary.assert_absent("/proc or a tmpfs in the container", &inside.out);
    let environments: String = processes
        .iter()
        .map(|process| String::from_utf8_lossy(&process.environment()).into_owned())
        .collect();
    if setting.agent == Agent::Claude {
        // The search sees what it should: the agent does have a placeholder.
        let placeholder = format!("{}={TOKEN_START}", setting.credential.variable());
        assert!(environments.contains(&placeholder));
    }
    let folder = tempfile::tempdir().unwrap();
    canary.assert_absent(
        "a file of the container",
        fs::read(container.export(folder.path())).unwrap(),
    );
    canary.assert_absent(
        "the image",
        docker_ok(&["image", "inspect", &setting.agent.image()]),
    );
    canary.assert_absent(
        "the image",
        docker_ok(&["history", "--no-trunc", &setting.agent.image()]),
    );
}

fn logs(container: &str) -> String {
    let ended = drawbridge_testkit::engine::docker(&["logs", container]);
    ended.out + &ended.err
}

fn the_upstream_saw_the_key_and_no_placeholder(
    credential: Credential,
    model: &drawbridge_testkit::Upstream,
) {
    credential.assert_injected(model);
    for request in model.requests() {
        // Bodies hold what the agent said; it may say its placeholder, which is
        // the session's token.
        let head: String = request
            .headers
            .iter()
            .map(|(n, v)| format!("{n}: {v}\n"))
            .collect();
        assert!(
            !head.contains(TOKEN_START),
            "the placeholder reached the upstream: {head}"
        );
    }
}
