//! `drawbridge serve` with real containers, and with a disk that is full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use drawbridge_testkit::engine::Container;
use drawbridge_testkit::{Answer, Gate, Launcher, Model, Piece, Program, Serve, eventually};

use crate::{Setting, Test};

pub(crate) const TESTS: &[Test] = &[
    ("serve_killed", serve_killed),
    ("serve_terminated", serve_terminated),
    ("serve_survives_a_full_disk", serve_survives_a_full_disk),
    (
        "serve_survives_a_hungry_agent",
        serve_survives_a_hungry_agent,
    ),
];

/// A `serve` whose one run waits for its model.
fn busy<'a>(launcher: &'a Launcher, setting: Setting, gate: &Gate, more: &[&str]) -> Serve<'a> {
    let serve = launcher.serve(&[&setting.flags()[..], more].concat());
    let submit = ["submit", "--group", "g", "--prompt", "go"];
    let ended = launcher.run(&submit);
    assert_eq!(ended.code, 0, "{}", ended.err);
    gate.wait_for_arrival();
    serve
}

fn held_model(gate: &Gate) -> drawbridge_testkit::Upstream {
    let held = gate.clone();
    Model::start(move |turn| {
        let is_first = turn.news().contains("go");
        let wait = is_first.then(|| Piece::Wait(held.clone()));
        let pieces = [Some(Piece::Text("half".into())), wait];
        Answer::Stream(pieces.into_iter().flatten().collect())
    })
}

/// The next `serve` ends the container before anything else happens, and does
/// not repeat what the agent had begun.
fn serve_killed(setting: Setting) {
    let gate = Gate::new();
    let model = held_model(&gate);
    let launcher = Launcher::new(setting.credential, &model);
    let serve = busy(&launcher, setting, &gate, &[]);
    let container = launcher.container();
    let processes = container.processes();
    serve.kill();
    let serve = launcher.serve(&setting.flags());
    let dead = serve.wait_for(1, "dead");
    assert_eq!(dead["class"], "infrastructure", "{dead}");
    assert!(Container::all_of(&launcher.install_id()).is_empty());
    assert!(processes.iter().all(|process| !process.is_alive()));
    gate.open();
    let ended = launcher.run(&["submit", "--group", "g", "--prompt", "next", "--wait"]);
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "half\n"),
        "{}",
        ended.err
    );
    assert_eq!(serve.end().code, 0);
    launcher.assert_nothing_left();
}

/// A run that does not end in time is stopped, and its container is gone.
fn serve_terminated(setting: Setting) {
    let gate = Gate::new();
    let model = held_model(&gate);
    let launcher = Launcher::new(setting.credential, &model);
    let serve = busy(&launcher, setting, &gate, &["--drain", "200ms"]);
    let ended = serve.end();
    assert_eq!(ended.code, 130, "{}", ended.err);
    launcher.assert_nothing_left();
    let listed = launcher.run(&["dead-letter", "list"]).out;
    assert!(listed.contains("interrupted"), "{listed}");
}

/// A small file system of its own for the state folder.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Self {
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"])
            .arg(folder);
        let ended = Program::run(&mut command);
        assert_eq!(ended.code, 0, "{}", ended.err);
        Self(folder.to_owned())
    }

    /// Takes all the room there is.
    fn fill(&self) {
        for size in [64 * 1024, 1024] {
            let mut number = 0;
            loop {
                let name = self.0.join(format!("filler-{size}-{number}"));
                if fs::write(name, vec![b'x'; size]).is_err() {
                    break;
                }
                number += 1;
            }
        }
    }

    fn make_room(&self) {
        for entry in fs::read_dir(&self.0).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("filler") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Program::run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

/// Nothing is accepted that cannot be kept, and what has happened is written
/// down as soon as there is room.
fn serve_survives_a_full_disk(setting: Setting) {
    let model = Model::start(|_| Answer::Text("done".into()));
    let launcher = Launcher::new(setting.credential, &model);
    let disk = SmallDisk::mount(&launcher.state());
    let serve = launcher.serve(&["--runtime", "host", "--agent", "command"]);
    let go = launcher.working_directory().join("go");
    let script = format!(
        "until [ -e {} ]; do sleep 0.05; done; echo went",
        go.display()
    );
    let live = serve.submit(&[], "x", &script);
    let _ = serve.wait_for(live, "start");
    let heartbeat = || {
        let mut runs = launcher.run_ids().into_iter();
        runs.find(|run| {
            let folder = launcher.state().join("runs").join(run);
            folder.join("group/ipc/heartbeat.json").exists()
        })
    };
    let _ = eventually("the agent", heartbeat);
    disk.fill();
    let refused = serve.try_submit(&[], "y", "true");
    assert_eq!(refused.code, 4, "{}", refused.err);
    assert!(
        refused.err.contains("hint: make room on the disk"),
        "{}",
        refused.err
    );
    fs::write(&go, "").unwrap();
    serve.program.wait_for_err("its trouble", |err| {
        err.contains("hint: make room on the disk").then_some(())
    });
    disk.make_room();
    let _ = serve.wait_for(live, "done");
    assert_eq!(serve.results(live), ["went"]);
    assert_eq!(
        serve.try_submit(&["--wait"], "y", "echo again").out,
        "again\n"
    );
    assert_eq!(serve.stages().len(), 2, "what was refused is not there");
    assert_eq!(serve.end().code, 0);
    launcher.assert_nothing_left();
}

/// The kernel kills a container that wants too much memory: a dead letter that
/// says so, not repeated, and the group goes on.
fn serve_survives_a_hungry_agent(setting: Setting) {
    let model = Model::start(|_| Answer::Text("never".into()));
    let launcher = Launcher::new(setting.credential, &model);
    let limits = ["--agent", "command", "--memory", "64m"];
    let image = std::env::var("DRAWBRIDGE_TESTS_IMAGE");
    let image = image.unwrap_or_else(|_| setting.agent.image());
    let serve =
        launcher.serve(&[&["--runtime", "docker", "--image", &image], &limits[..]].concat());
    let submit = |script: &str| {
        let submit = [
            "submit", "--group", "g", "--prompt", "go", "--", "/bin/sh", "-c", script,
        ];
        let ended = launcher.run(&submit);
        assert_eq!(ended.code, 0, "{}", ended.err);
        ended.out.trim().parse().unwrap()
    };
    let hungry = "echo x >> deeds; while :; do cat /dev/zero >> /tmp/x; done";
    let dead = serve.wait_for(submit(hungry), "dead");
    assert_eq!(dead["class"], "infrastructure", "{dead}");
    let hint = dead["hint"].as_str().unwrap();
    assert!(hint.contains("--memory than 64m"), "{dead}");
    let deeds = fs::read_to_string(launcher.group("g").join("workspace/deeds"));
    assert_eq!(deeds.unwrap(), "x\n");
    let next = submit("echo fine");
    let _ = serve.wait_for(next, "done");
    assert_eq!(serve.results(next), ["fine"]);
    assert_eq!(serve.end().code, 0);
    launcher.assert_nothing_left();
}
