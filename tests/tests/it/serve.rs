//! What `drawbridge serve` promises, on the host runtime with shell scripts as
//! agents.

mod crash;
mod shutdown;

use std::fs;

use drawbridge_testkit::launcher::events;
use drawbridge_testkit::{Answer, Credential, Launcher, Model, Program, Upstream, program_path};
use serde_json::{Value, json};

pub(crate) const SHELL: [&str; 6] = [
    "--runtime",
    "host",
    "--agent",
    "command",
    "--retry-delay",
    "50ms",
];

pub(crate) fn launcher() -> (Upstream, Launcher) {
    let model = Model::start(|turn| Answer::Text(format!("answer to {}", turn.news().trim())));
    let launcher = Launcher::new(Credential::ApiKey, &model);
    (model, launcher)
}

fn types_of(launcher: &Launcher, id: i64) -> Vec<String> {
    let log = launcher.logged().into_iter();
    log.filter(|entry| entry["submission"] == id)
        .map(|entry| entry["event"]["type"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_submission_is_run_and_its_events_are_kept() {
    let (_model, launcher) = launcher();
    let serve = launcher.serve(&SHELL);
    let ended = serve.try_submit(&["--wait"], "hello", "read -r word; echo \"got $word\"");
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "got hello\n"),
        "{}",
        ended.err
    );
    let types = types_of(&launcher, 1);
    assert_eq!(
        types,
        ["queued", "attempt", "start", "result", "stopped", "done"]
    );
    let log = launcher.logged();
    let after_two = launcher.run(&["events", "--since", "2"]);
    assert_eq!(events(&after_two.out), log[2..], "it is read on");
    assert_eq!(serve.end().code, 0);
    launcher.assert_nothing_left();
}

#[test]
fn a_failed_agent_is_a_dead_letter_and_is_not_repeated_unasked() {
    let (_model, launcher) = launcher();
    let serve = launcher.serve(&SHELL);
    let script = "read -r word; echo \"$word\" >> \"$HOME/deeds\"; exit 3";
    let ended = serve.try_submit(&["--group", "a", "--wait"], "poison", script);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.err.contains("dead-letter show 1"), "{}", ended.err);
    let shown = launcher.run(&["dead-letter", "show", "1", "--json"]);
    let letter: Value = serde_json::from_str(&shown.out).unwrap();
    let input: Value = serde_json::from_str(letter["input"].as_str().unwrap()).unwrap();
    assert_eq!(input["prompt"], "poison");
    assert_eq!(letter["failures"][0]["class"], "agent-failed");
    for attempt in 2..=4 {
        let retried = launcher.run(&["dead-letter", "retry", "1"]);
        assert_eq!(retried.code, 0, "{}", retried.err);
        serve.wait_for_ends(attempt);
    }
    let refused = launcher.run(&["dead-letter", "retry", "1"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("3 times already"), "{}", refused.err);
    let deeds = fs::read_to_string(launcher.group("a").join("home/deeds")).unwrap();
    assert_eq!(deeds.lines().count(), 4);
    assert_eq!(serve.end().code, 0);
    // The store is there without a `serve` too.
    assert!(
        launcher
            .run(&["dead-letter", "list"])
            .out
            .contains("exit code 3")
    );
    assert_eq!(launcher.run(&["dead-letter", "purge", "1"]).code, 0);
    assert_eq!(launcher.run(&["dead-letter", "list"]).out, "");
}

#[test]
fn asked_to_it_repeats_a_failed_agent_until_the_attempts_are_used_up() {
    let (_model, launcher) = launcher();
    let serve = launcher.serve(&[&SHELL[..], &["--retry-agent-failures"]].concat());
    let script = "echo x >> \"$HOME/tries\"; [ $(wc -l < \"$HOME/tries\") -ge 3 ] && echo fine";
    let ended = serve.try_submit(&["--group", "a", "--wait"], "go", script);
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "fine\n"),
        "{}",
        ended.err
    );
    let ended = serve.try_submit(&["--wait"], "go", "exit 7");
    assert_eq!(ended.code, 1, "{}", ended.err);
    let attempts = types_of(&launcher, 2);
    let count = |name: &str| attempts.iter().filter(|kind| *kind == name).count();
    assert_eq!((count("attempt"), count("retry"), count("dead")), (3, 2, 1));
}

/// The model API says when to come back, and the wait is at least that long.
#[test]
fn a_model_that_wants_to_be_left_alone_is() {
    let upstream = Upstream::start(|_, exchange| {
        let headers = [
            ("content-type", "application/json"),
            ("retry-after", "1800"),
        ];
        let error =
            json!({ "type": "error", "error": { "type": "rate_limit_error", "message": "later" } });
        exchange.respond(429, &headers, error.to_string())
    });
    let launcher = Launcher::new(Credential::ApiKey, &upstream);
    let args = [
        "--runtime",
        "host",
        "--agent",
        "builtin",
        "--retry-agent-failures",
    ];
    let serve = launcher.serve(&args);
    assert_eq!(launcher.run(&["submit", "--prompt", "x"]).code, 0);
    let retry = serve.wait_for(1, "retry");
    assert_eq!(
        (&retry["class"], &retry["afterMs"]),
        (&json!("agent-failed"), &json!(1_800_000))
    );
    // Waiting is no reason to stay.
    assert_eq!(serve.end().code, 0);
}

#[test]
fn messages_to_a_group_go_into_its_live_run() {
    let (_model, launcher) = launcher();
    let serve = launcher.serve(&["--runtime", "host", "--agent", "builtin"]);
    let submit = ["submit", "--prompt", "one", "--group", "a", "--stay-open"];
    assert_eq!(launcher.run(&submit).out, "1\n");
    let _ = serve.wait_for(1, "result");
    assert_eq!(launcher.run(&["send", "--group", "a", "two"]).out, "1\n");
    assert_eq!(launcher.run(&["send", "--id", "1", "three"]).out, "1\n");
    serve.wait_for_results(1, 3);
    assert_eq!(launcher.run(&["close", "1"]).code, 0);
    let _ = serve.wait_for(1, "done");
    assert_eq!(
        serve.results(1),
        ["answer to one", "answer to two", "answer to three"]
    );
    // Without a live run the message is a submission of its own.
    assert_eq!(launcher.run(&["send", "--group", "a", "four"]).out, "2\n");
    let _ = serve.wait_for(2, "done");
    assert_eq!(serve.results(2), ["answer to four"]);
    let late = launcher.run(&["send", "--id", "1", "five"]);
    assert_eq!(late.code, 2, "{}", late.err);
}

#[test]
fn what_waits_can_be_taken_back_and_what_runs_can_be_stopped() {
    let (_model, launcher) = launcher();
    let serve = launcher.serve(&SHELL);
    let live = serve.submit(&["--group", "a"], "x", "sleep 1000");
    let waits = serve.submit(&["--group", "a"], "x", "echo never");
    let _ = serve.wait_for(live, "start");
    assert_eq!(launcher.run(&["close", &waits.to_string()]).code, 0);
    assert_eq!(serve.wait_for(waits, "done")["code"], 130);
    assert_eq!(launcher.run(&["close", "--now", &live.to_string()]).code, 0);
    assert_eq!(serve.wait_for(live, "done")["code"], 130);
    assert!(!types_of(&launcher, waits).contains(&"attempt".to_owned()));
    assert_eq!(serve.end().code, 0);
    launcher.assert_nothing_left();
}

#[test]
fn what_could_never_run_is_refused_at_once_and_a_full_queue_says_so() {
    let (_model, launcher) = launcher();
    let serve = launcher.serve(&[&SHELL[..], &["--max-waiting", "1"]].concat());
    let refused = launcher.run(&["submit", "--prompt", "x"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("needs a program"), "{}", refused.err);
    let refused = serve.try_submit(&["--memory", "lots"], "x", "true");
    assert_eq!(refused.code, 2);
    assert!(
        refused.err.contains("\"lots\" is not valid"),
        "{}",
        refused.err
    );
    let live = serve.submit(&["--group", "a"], "x", "sleep 1000");
    let _ = serve.wait_for(live, "start");
    let _ = serve.submit(&["--group", "a"], "x", "true");
    let full = serve.try_submit(&["--group", "b"], "x", "true");
    assert!(full.err.contains("the queue is full"), "{}", full.err);
    assert!(full.err.contains("hint: try again"), "{}", full.err);
}

#[test]
fn submitting_again_under_the_same_key_gives_the_same_number() {
    let (_model, launcher) = launcher();
    let serve = launcher.serve(&SHELL);
    let first = serve.submit(&["--key", "k"], "x", "echo once");
    assert_eq!(serve.submit(&["--key", "k"], "x", "echo once"), first);
    assert_ne!(serve.submit(&["--key", "l"], "x", "echo once"), first);
}

#[test]
fn a_broken_configuration_stops_the_start_and_costs_nothing_later() {
    let (_model, launcher) = launcher();
    let file = launcher.working_directory().join("drawbridge.toml");
    fs::write(&file, "[run]\nmemroy = '1g'\n").unwrap();
    let refused = launcher.run(&["serve"]);
    assert_eq!(refused.code, 2);
    assert!(
        refused.err.contains("unknown key \"memroy\""),
        "{}",
        refused.err
    );
    fs::remove_file(&file).unwrap();
    let serve = launcher.serve(&SHELL);
    fs::write(&file, "not toml").unwrap();
    let refused = serve.try_submit(&[], "x", "true");
    assert_eq!(refused.code, 2);
    assert!(
        refused.err.contains("drawbridge.toml line 1"),
        "{}",
        refused.err
    );
    fs::remove_file(&file).unwrap();
    assert_eq!(
        serve.try_submit(&["--wait"], "x", "true; echo ok").out,
        "ok\n"
    );
}

#[test]
fn one_serve_per_state_folder_and_one_run_per_group() {
    let (_model, launcher) = launcher();
    let serve = launcher.serve(&SHELL);
    let second = launcher.run(&["serve"]);
    assert_eq!(second.code, 3);
    assert!(
        second.err.contains("another `drawbridge serve`"),
        "{}",
        second.err
    );
    assert!(second.err.contains("hint: stop it"), "{}", second.err);
    let live = serve.submit(&["--group", "a"], "x", "sleep 1000");
    let _ = serve.wait_for(live, "start");
    let run = [
        "run",
        "--runtime",
        "host",
        "--agent",
        "command",
        "--group",
        "a",
    ];
    let beside = launcher.run(&[&run[..], &["--prompt", "x", "--", "/bin/cat"]].concat());
    assert_eq!(beside.code, 3);
    assert!(
        beside.err.contains("group a is in use by another run"),
        "{}",
        beside.err
    );
}

/// A `run` beside `serve` holds the group; the submission waits for it, and the
/// wait is nobody's failure.
#[test]
fn a_group_that_another_program_holds_is_waited_for() {
    let (_model, launcher) = launcher();
    let run = ["--runtime", "host", "--agent", "command", "--group", "a"];
    let script = "until [ -e go ]; do sleep 0.05; done; echo free";
    let tail = ["--prompt", "x", "--", "/bin/bash", "-c", script];
    let mut run = launcher.start(&[&run[..], &tail].concat());
    run.0.close_stdin();
    run.0
        .wait_for_out("its start", |out| out.contains("\"start\"").then_some(()));
    let serve = launcher.serve(&SHELL);
    let id = serve.submit(&["--group", "a"], "x", "echo mine");
    let _ = serve.wait_for(id, "queued");
    fs::write(launcher.group("a").join("workspace/go"), "").unwrap();
    let _ = serve.wait_for(id, "done");
    let types = types_of(&launcher, id);
    assert_eq!(types.iter().filter(|kind| *kind == "attempt").count(), 1);
}

#[test]
fn a_program_drives_it_on_standard_input_and_output() {
    let (_model, launcher) = launcher();
    let mut serve = launcher.serve(&[&SHELL[..], &["--stdio"]].concat());
    let program = ["/bin/bash", "-c", "read -r word; echo \"got $word\""];
    let submit = json!({ "submit": { "prompt": "hi", "program": program } });
    serve
        .program
        .write(&format!("{submit}\nnonsense\n{{\"health\":{{}}}}\n"));
    serve.program.wait_for_out("the end", |out| {
        events(out)
            .iter()
            .find(|line| line["event"]["type"] == "done")
            .map(|_| ())
    });
    serve.program.close_stdin();
    let ended = serve.program.wait();
    assert_eq!(ended.code, 0, "{}", ended.err);
    let lines = events(&ended.out);
    let answers: Vec<_> = lines
        .iter()
        .filter(|line| line.get("event").is_none())
        .collect();
    assert_eq!(answers[0]["answer"]["id"], 1);
    assert!(
        answers[1]["error"]
            .as_str()
            .unwrap()
            .contains("command is not valid")
    );
    assert_eq!(answers[2]["answer"]["ok"], true);
    let result = lines.iter().find(|line| line["event"]["type"] == "result");
    assert_eq!(result.unwrap()["event"]["result"], "got hi");
}

/// An agent under Landlock has the same user as `serve` and can reach its
/// socket, but not the token.
#[test]
fn an_agent_on_the_host_cannot_give_orders_to_serve() {
    let (_model, launcher) = launcher();
    let serve = launcher.serve(&SHELL);
    let program = program_path("drawbridge-dup").display().to_string();
    let state = launcher.state().display().to_string();
    let script = format!(
        "cat {state}/serve/token 2>&1; export DRAWBRIDGE_STATE_DIR={state}; \
         {program} list 2>&1; echo code $?"
    );
    let ended = serve.try_submit(&["--wait"], "x", &script);
    assert!(ended.out.contains("Permission denied"), "{}", ended.out);
    assert!(!ended.out.contains("code 0"), "{}", ended.out);
}

#[test]
fn callers_without_the_token_are_turned_away() {
    let (_model, launcher) = launcher();
    let _serve = launcher.serve(&SHELL);
    let token = launcher.state().join("serve/token");
    fs::write(&token, "0".repeat(32)).unwrap();
    let ended = launcher.run(&["list"]);
    assert_ne!(ended.code, 0);
    assert!(
        ended.err.contains("the token is missing or wrong"),
        "{}",
        ended.err
    );
    let mut command = launcher.command(&["list"]);
    command.env("DRAWBRIDGE_STATE_DIR", launcher.working_directory());
    let ended = Program::run(&mut command);
    assert_eq!(ended.code, 3);
    assert!(
        ended.err.contains("hint: start one: drawbridge serve"),
        "{}",
        ended.err
    );
}

/// What the agent's folders show is the agent's to change: an agent that hides
/// that it was there is not started a second time.
#[test]
fn an_agent_that_hides_its_traces_is_not_repeated() {
    let (_model, launcher) = launcher();
    let serve = launcher.serve(&SHELL);
    let ipc = launcher.group("a").join("ipc");
    let script = format!(
        "echo x >> deeds; while :; do rm -rf {0}/heartbeat.json {0}/input; sleep 0.01; done",
        ipc.display()
    );
    let limit = ["--group", "a", "--timeout", "3s"];
    let id = serve.submit(&limit, "x", &script);
    let dead = serve.wait_for(id, "dead");
    assert_eq!(dead["class"], "agent-failed", "{dead}");

    let id = serve.submit(&["--group", "a"], "x", &script);
    let deeds = || {
        let deeds = fs::read_to_string(launcher.group("a").join("workspace/deeds"));
        deeds.unwrap_or_default().lines().count()
    };
    drawbridge_testkit::eventually("the second agent", || (deeds() == 2).then_some(()));
    serve.kill();
    let serve = launcher.serve(&SHELL);
    let dead = serve.wait_for(id, "dead");
    assert_eq!(dead["class"], "infrastructure", "{dead}");
    assert_eq!(deeds(), 2);
    assert_eq!(serve.end().code, 0);
    launcher.assert_nothing_left();
}
