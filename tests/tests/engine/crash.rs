//! Killing each part of a run leaves nothing behind.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use drawbridge_testkit::engine::{Container, HostProcess};
use drawbridge_testkit::launcher::{Run, errors, files_below};
use drawbridge_testkit::{Answer, Gate, Launcher, Model, Piece, Upstream, eventually};
use rustix::process::Signal;

use crate::{Agent, Setting, Test};

pub(crate) const TESTS: &[Test] = &[
    ("agent_killed", agent_killed),
    ("runner_killed", runner_killed),
    ("supervisor_killed", supervisor_killed),
    ("launcher_killed", launcher_killed),
    ("launcher_terminated", launcher_terminated),
];

/// A run whose model is in the middle of an answer.
struct Busy {
    launcher: Launcher,
    model: Upstream,
    run: Run,
    container: Container,
    processes: Vec<HostProcess>,
    gate: Gate,
}

impl Busy {
    fn start(setting: Setting) -> Self {
        let gate = Gate::new();
        let held = gate.clone();
        let model = Model::start(move |_| {
            let pieces = [Piece::Text("half".into()), Piece::Wait(held.clone())];
            Answer::Stream(pieces.into())
        });
        let launcher = Launcher::new(setting.credential, &model);
        let args = [&setting.flags()[..], &["--group", "g", "--prompt", "go"]].concat();
        let run = launcher.start(&args);
        gate.wait_for_arrival();
        let container = launcher.container();
        let processes = container.processes();
        Self {
            launcher,
            model,
            run,
            container,
            processes,
            gate,
        }
    }

    fn process(&self, matches: impl Fn(&str) -> bool) -> HostProcess {
        let lines: Vec<_> = self.processes.iter().map(|p| p.command_line()).collect();
        let found = self
            .processes
            .iter()
            .find(|process| matches(&process.command_line()));
        *found.unwrap_or_else(|| panic!("no such process among {lines:?}"))
    }

    /// The run ends by itself, with an error, and leaves nothing.
    fn ends_with_an_error(mut self) {
        let ended = self.run.0.wait();
        assert_ne!(ended.code, 0, "{}", ended.err);
        assert!(
            !errors(&ended.out).is_empty() || ended.err.contains("error: "),
            "{}",
            ended.err
        );
        self.launcher.assert_nothing_left();
        let alive = self
            .processes
            .iter()
            .filter(|process| process.is_alive())
            .count();
        assert_eq!(alive, 0, "processes of the container live on");
        self.gate.open();
    }
}

fn agent_killed(setting: Setting) {
    let busy = Busy::start(setting);
    match setting.agent {
        Agent::Claude => busy.process(|line| line.starts_with("claude ")).kill(),
        // The built-in agent is part of the supervisor.
        Agent::Builtin => busy.process(|line| line.contains("supervise")).kill(),
    };
    busy.ends_with_an_error();
}

fn runner_killed(setting: Setting) {
    let busy = Busy::start(setting);
    busy.process(|line| line.contains("agent-runner") && !line.contains("supervise"))
        .kill();
    busy.ends_with_an_error();
}

fn supervisor_killed(setting: Setting) {
    let busy = Busy::start(setting);
    busy.process(|line| line.contains("supervise")).kill();
    busy.ends_with_an_error();
}

fn launcher_terminated(setting: Setting) {
    let busy = Busy::start(setting);
    busy.run.0.signal(Signal::TERM);
    busy.ends_with_an_error();
}

/// Nothing runs after the next command, and the session of the dead run opens
/// no other run's proxy.
fn launcher_killed(setting: Setting) {
    let Busy {
        launcher,
        model,
        mut run,
        container,
        processes,
        gate,
    } = Busy::start(setting);
    let token = session_token(setting, &processes);
    run.0.signal(Signal::KILL);
    let _ = run.0.wait();
    let ended = launcher.run(&["clean"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(!container.is_running());
    launcher.assert_nothing_left();
    eventually("the end of the container's processes", || {
        processes
            .iter()
            .all(|process| !process.is_alive())
            .then_some(())
    });
    let sockets: Vec<PathBuf> = files_below(&launcher.state())
        .into_iter()
        .filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "sock")
        })
        .collect();
    assert!(sockets.is_empty(), "{sockets:?}");

    let args = [&setting.flags()[..], &["--group", "g", "--prompt", "again"]].concat();
    let next = launcher.start(&args);
    let requests = eventually("the next run's request", || {
        let count = model.requests().len();
        (count >= 2).then_some(count)
    });
    let socket = proxy_socket(&launcher);
    let old = token.as_deref().unwrap_or("dbs_unknown");
    assert!(
        ask(&socket, old).starts_with("HTTP/1.1 401"),
        "the old session opens the proxy"
    );
    let fresh = session_token(setting, &launcher.container().processes());
    let is_claude = setting.agent == Agent::Claude;
    assert_eq!(token.is_some(), is_claude);
    assert_eq!(fresh.is_some(), is_claude);
    assert_eq!(fresh != token, is_claude, "the new run has the old session");
    assert_eq!(
        model.requests().len(),
        requests,
        "a refused request reached the upstream"
    );
    gate.open();
    drop(next);
}

/// The placeholder in the agent's environment, which is the session's token.
/// The built-in agent has none: it is the runner, which nobody can look into.
fn session_token(setting: Setting, processes: &[HostProcess]) -> Option<String> {
    let start = format!("{}=", setting.credential.variable());
    processes.iter().find_map(|process| {
        let environment = String::from_utf8_lossy(&process.environment()).into_owned();
        let value = environment
            .split('\0')
            .find_map(|one| one.strip_prefix(&start));
        value.map(str::to_owned)
    })
}

fn proxy_socket(launcher: &Launcher) -> PathBuf {
    let is_socket = |file: &PathBuf| file.ends_with("proxy.sock");
    eventually("the proxy's socket", || {
        files_below(&launcher.state()).into_iter().find(is_socket)
    })
}

fn ask(socket: &PathBuf, token: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    let request = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\nconnection: close\r\n\
         content-length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
