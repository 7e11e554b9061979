//! `serve` is killed; nothing is lost, repeated or left behind.

use std::collections::BTreeMap;
use std::fs;

use drawbridge_testkit::launcher::events;
use drawbridge_testkit::serve::ends;
use serde_json::json;

use super::{SHELL, launcher};

const SUBMISSIONS: usize = 200;
const GROUPS: usize = 20;
/// How many have ended when it is killed.
const BEFORE_THE_KILL: usize = 60;

/// Every agent writes down what it does; one in six fails after that.
const AGENT: &str = "read -r n; echo \"$n\" >> deeds; (( n % 6 == 5 )) && exit 3; echo \"done $n\"";

#[test]
fn two_hundred_end_once_each_and_in_order_though_serve_is_killed() {
    let (_model, launcher) = launcher();
    let args = [&SHELL[..], &["--stdio", "--max-runs", "5"]].concat();
    let mut serve = launcher.serve(&args);
    for n in 0..SUBMISSIONS {
        let group = format!("g{}", n % GROUPS);
        let program = ["/bin/bash", "-c", AGENT];
        let submit = json!({ "prompt": n.to_string(), "group": group, "program": program });
        serve
            .program
            .write(&format!("{}\n", json!({ "submit": submit })));
    }
    serve.program.wait_for_out("all answers", |out| {
        let lines = events(out);
        let answers = lines.iter().filter(|line| line.get("answer").is_some());
        (answers.count() == SUBMISSIONS).then_some(())
    });
    serve.wait_for_ends(BEFORE_THE_KILL);
    serve.kill();
    let serve = launcher.serve(&SHELL);
    serve.wait_for_ends(SUBMISSIONS);

    let log = launcher.logged();
    let ends = ends(&log);
    assert_eq!(ends.len(), SUBMISSIONS, "each ends once");
    let mut last = BTreeMap::new();
    for (id, _) in &ends {
        let group = (id - 1) % GROUPS as i64;
        let before = last.insert(group, *id);
        assert!(
            before < Some(*id),
            "{before:?} before {id} in group {group}"
        );
    }
    let stages = serve.stages();
    for (id, kind) in &ends {
        assert_eq!(&stages[id], kind, "submission {id}");
    }
    for group in 0..GROUPS {
        let deeds = launcher.group(&format!("g{group}")).join("workspace/deeds");
        let deeds = fs::read_to_string(deeds).unwrap();
        let deeds: Vec<usize> = deeds.lines().map(|line| line.parse().unwrap()).collect();
        assert!(
            deeds.is_sorted_by(|a, b| a < b),
            "repeated or out of order: {deeds:?}"
        );
    }
    // What the kill hit is at most what ran at that time.
    let failed = |id: &i64| (id - 1) % 6 == 5;
    let hit = ends
        .iter()
        .filter(|(id, kind)| kind == "dead" && !failed(id))
        .count();
    assert!(hit <= 5, "{hit} were hit");
    assert!(ends.iter().all(|(id, kind)| !failed(id) || kind == "dead"));
    assert_eq!(serve.end().code, 0);
    launcher.assert_nothing_left();
}

/// One step of a run after the other: whatever the last thing written down was,
/// the submission has one end, and the agent has worked once at most.
#[test]
fn killed_at_any_step_each_submission_still_has_one_end() {
    for step in ["queued", "attempt", "start", "result", "stopped", "done"] {
        let (_model, launcher) = launcher();
        let serve = launcher.serve(&SHELL);
        let id = serve.submit(&["--group", "a"], "x", "echo x >> deeds; echo fine");
        let _ = serve.wait_for(id, step);
        serve.kill();
        let serve = launcher.serve(&SHELL);
        serve.wait_for_ends(1);
        assert_eq!(ends(&launcher.logged()).len(), 1, "killed at {step}");
        let deeds = launcher.group("a").join("workspace/deeds");
        let deeds = fs::read_to_string(deeds).unwrap_or_default();
        assert!(deeds.lines().count() <= 1, "killed at {step}");
        if serve.stages()[&id] == "dead" {
            let shown = launcher.run(&["dead-letter", "show", "1"]);
            assert!(shown.out.contains("the launcher died"), "{}", shown.out);
        }
        assert_eq!(serve.end().code, 0);
        launcher.assert_nothing_left();
    }
}

/// The message was with the agent, so only a person can decide to repeat it.
#[test]
fn an_agent_at_work_is_stopped_and_not_started_again_unasked() {
    let (_model, launcher) = launcher();
    for (flag, expected) in [(None, "dead"), (Some("--retry-agent-failures"), "done")] {
        let args = [&SHELL[..], &Vec::from_iter(flag)].concat();
        let serve = launcher.serve(&args);
        let script = "if [ -e seen ]; then echo again; else touch seen; sleep 1000; fi";
        let group = format!("to-be-{expected}");
        let id = serve.submit(&["--group", &group], "x", script);
        let seen = launcher.group(&group).join("workspace/seen");
        drawbridge_testkit::eventually("the agent", || seen.exists().then_some(()));
        serve.kill();
        let serve = launcher.serve(&args);
        let _ = serve.wait_for(id, expected);
        assert_eq!(serve.end().code, 0);
    }
    launcher.assert_nothing_left();
}

#[test]
fn a_damaged_queue_is_set_aside_with_a_hint() {
    let (_model, launcher) = launcher();
    let serve = launcher.serve(&SHELL);
    assert_eq!(serve.end().code, 0);
    let queue = launcher.state().join("serve/queue.db");
    fs::write(&queue, vec![0x5a; 8192]).unwrap();
    let refused = launcher.run(&[&["serve"], &SHELL[..]].concat());
    assert_eq!(refused.code, 4, "{}", refused.err);
    assert!(
        refused.err.contains("it was set aside as"),
        "{}",
        refused.err
    );
    assert_eq!(launcher.serve(&SHELL).end().code, 0);
}
