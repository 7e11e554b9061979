//! Conversations that every agent has to have.

use drawbridge_testkit::launcher::answers;
use drawbridge_testkit::{Answer, Gate, Model, Piece};

use crate::Test;
use crate::cli::{Setting, word};

/// What is tried in every place.
pub(crate) const FIRST_TURN: &[Test] = &[("first_turn", first_turn)];

pub(crate) const TESTS: &[Test] = &[
    ("follow_up_while_busy", follow_up_while_busy),
    (
        "an_interrupt_keeps_the_conversation",
        an_interrupt_keeps_the_conversation,
    ),
    ("resume_in_a_second_run", resume_in_a_second_run),
    ("what_it_cannot_do_is_said", what_it_cannot_do_is_said),
];

/// For all but the oldest Claude Code.
pub(crate) const CHAT_TEXT: Test = ("chat_text_is_not_interpreted", chat_text_is_not_interpreted);

/// For agents whose subagents are tried.
pub(crate) const SUBAGENT: Test = ("a_subagent_is_not_the_answer", a_subagent_is_not_the_answer);

fn first_turn(setting: Setting) {
    let model = Model::start(|turn| Answer::Text(format!("answer to {}", word(&turn.news()))));
    let launcher = setting.launcher(&model);
    let mut run = setting.start(&launcher, &["--prompt", "apple"]);
    run.0.close_stdin();
    let record = run.wait_for_event("the answer", |event| event["type"] == "result");
    let ended = run.0.wait();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(record["result"], "answer to apple");
    assert_eq!(record["agentVersion"], setting.cli.version());
    let abilities = setting.cli.abilities();
    let has = |field: &str| record[field] != serde_json::Value::Null;
    assert_eq!(has("usage"), abilities.tells_usage, "{record}");
    assert_eq!(has("costUsd"), abilities.tells_cost, "{record}");
    setting.assert_injected(&model);
    launcher.assert_nothing_left();
}

fn follow_up_while_busy(setting: Setting) {
    let gate = Gate::new();
    let held = gate.clone();
    let model = Model::start(move |turn| {
        let word = word(&turn.news());
        let text = Piece::Text(format!("answer to {word}"));
        match word {
            "apple" => Answer::Stream(vec![Piece::Wait(held.clone()), text]),
            _ => Answer::Stream(vec![text]),
        }
    });
    let launcher = setting.launcher(&model);
    let mut run = setting.start(&launcher, &["--group", "g", "--prompt", "apple"]);
    gate.wait_for_arrival();
    run.send("banana");
    let taken = launcher.group("g").join("ipc/input/.taken");
    let is_taken = || !drawbridge_testkit::launcher::files_below(&taken).is_empty();
    let is_known = || {
        let mut requests = model.requests().into_iter();
        requests.any(|request| request.text().contains("banana"))
    };
    // While the turn is open, the model is asked with it at once, or the agent
    // keeps it for later and has not confirmed it.
    let joins = setting.cli.abilities().joins_turns;
    drawbridge_testkit::eventually("the follow-up to be taken", || {
        (if joins { is_known() } else { is_taken() }).then_some(())
    });
    assert_eq!(is_known(), joins);
    gate.open();
    let expected: &[&str] = if joins {
        &["answer to banana"]
    } else {
        &["answer to apple", "answer to banana"]
    };
    assert_eq!(run.wait_for_answers(expected.len()), expected);
    let ended = run.finish();
    assert_eq!(ended.code, 0, "{}", ended.err);
    let requests = model.requests();
    assert!(
        requests.iter().any(|request| {
            let text = request.text();
            text.contains("apple") && text.contains("banana")
        }),
        "one conversation"
    );
    drawbridge_testkit::eventually("the receipt", || {
        drawbridge_testkit::launcher::files_below(&taken)
            .is_empty()
            .then_some(())
    });
}

fn an_interrupt_keeps_the_conversation(setting: Setting) {
    let gate = Gate::new();
    let held = gate.clone();
    let model = Model::start(move |turn| match word(&turn.news()) {
        "banana" => Answer::Stream(vec![Piece::Wait(held.clone())]),
        word => {
            let remembers = turn.history().contains("apple");
            Answer::Text(format!("answer to {word}, remembers apple: {remembers}"))
        }
    });
    let launcher = setting.launcher(&model);
    let mut run = setting.start(&launcher, &["--prompt", "apple"]);
    let _ = run.wait_for_answers(1);
    run.send("banana");
    gate.wait_for_arrival();
    run.request("interrupt");
    let _ = run.wait_for_event("the interrupted turn", |event| {
        event["kind"] == "interrupted"
    });
    run.send("cherry");
    let answers = run.wait_for_answers(2);
    gate.open();
    assert_eq!(answers[1], "answer to cherry, remembers apple: true");
    let ended = run.finish();
    assert_eq!(ended.code, 0, "{}", ended.err);
    launcher.assert_nothing_left();
}

fn resume_in_a_second_run(setting: Setting) {
    let model = Model::start(|turn| {
        let remembers = turn.history().contains("apple");
        Answer::Text(format!("remembers apple: {remembers}"))
    });
    let launcher = setting.launcher(&model);
    let run = |group, prompt| {
        let ended = setting.run(&launcher, &["--group", group, "--prompt", prompt]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        ended.out.trim_end().to_owned()
    };
    assert_eq!(run("g", "apple"), "remembers apple: true");
    assert_eq!(run("g", "banana"), "remembers apple: true");
    assert_eq!(run("h", "banana"), "remembers apple: false");
}

/// An agent that cannot summarise says so, and the conversation goes on.
fn what_it_cannot_do_is_said(setting: Setting) {
    let model = Model::start(|turn| Answer::Text(format!("answer to {}", word(&turn.news()))));
    let launcher = setting.launcher(&model);
    let mut run = setting.start(&launcher, &["--group", "g", "--prompt", "apple"]);
    let _ = run.wait_for_answers(1);
    run.request("compact");
    let abilities = setting.cli.abilities();
    if abilities.compacts {
        let _ = run.wait_for_event("the compaction", |event| {
            event["progress"]["type"] == "compaction"
        });
    }
    run.send("cherry");
    let record = run.wait_for_event("the next answer", |event| {
        let text = event["result"].as_str().unwrap_or_default();
        event["type"] == "result" && text.contains("cherry")
    });
    let notice = record["notice"].as_str().unwrap_or_default();
    assert_eq!(
        notice.contains("cannot compact"),
        !abilities.compacts,
        "{record}"
    );
    let ended = run.finish();
    assert_eq!(ended.code, 0, "{}", ended.err);
    let archives = launcher.group("g").join("workspace/conversations");
    let archives = drawbridge_testkit::launcher::files_below(&archives);
    assert_eq!(
        !archives.is_empty(),
        abilities.archives,
        "{archives:?}: {}",
        ended.err
    );
}

/// Neither as a command, which `/init` is to most agents, nor as a file to read.
fn chat_text_is_not_interpreted(setting: Setting) {
    const TEXT: &str = "/init apple @secret.txt";
    const SECRET: &str = "what-is-in-the-file-4711";
    let model = Model::start(|turn| Answer::Text(format!("answer to {}", word(&turn.news()))));
    let launcher = setting.launcher(&model);
    let workspace = launcher.group("g").join("workspace");
    std::fs::create_dir_all(&workspace).unwrap();
    std::fs::write(workspace.join("secret.txt"), SECRET).unwrap();
    let mut run = setting.start(&launcher, &["--group", "g", "--prompt", TEXT]);
    assert_eq!(run.wait_for_answers(1), ["answer to apple"]);
    run.send("/compact banana @secret.txt");
    assert_eq!(run.wait_for_answers(2)[1], "answer to banana");
    let ended = run.finish();
    assert_eq!(ended.code, 0, "{}", ended.err);
    let texts: Vec<_> = { model.requests() }.iter().map(|r| r.text()).collect();
    let saw = |what: &str| texts.iter().any(|text| text.contains(what));
    assert!(saw(TEXT) && saw("/compact banana @secret.txt"));
    assert!(!saw(SECRET), "the file was read");
}

fn a_subagent_is_not_the_answer(setting: Setting) {
    let model = Model::start(move |turn| {
        if turn.news().contains("work-for-the-subagent") && !turn.has_tool_result() {
            return Answer::Stream(vec![Piece::Text("words of the subagent".into())]);
        }
        if turn.has_tool_result() {
            let has_heard = turn.news().contains("words of the subagent");
            return Answer::Text(format!("heard the subagent: {has_heard}"));
        }
        let call = setting.cli.subagent(turn, "work-for-the-subagent");
        call.unwrap_or_else(|| Answer::Text("a title".into()))
    });
    let launcher = setting.launcher(&model);
    let run = setting.start(&launcher, &["--prompt", "apple"]);
    let _ = run.wait_for_answers(1);
    let ended = run.finish();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(answers(&ended.out), ["heard the subagent: true"]);
    // Not even on the way to the answer.
    assert!(
        !ended.out.contains("words of the subagent"),
        "{}",
        ended.out
    );
}
