//! Failures of the vendor's API: an error of the right kind, and the next run
//! works.

use drawbridge_shared::protocol::AgentKind;
use drawbridge_tests::launcher::{answers, events};
use drawbridge_tests::{Answer, Model, Piece, Request};

use crate::Test;
use crate::cli::{Setting, word};

pub(crate) const TESTS: &[Test] = &[
    ("upstream_401", upstream_401),
    ("upstream_drops_every_stream", upstream_drops_every_stream),
];

fn upstream_401(setting: Setting) {
    let refusal = Answer::Error {
        status: 401,
        kind: "authentication_error",
    };
    let explains = setting.cli.abilities().explains_failures;
    fails(setting, refusal, if explains { "auth" } else { "api" });
}

fn upstream_drops_every_stream(setting: Setting) {
    let half = Answer::Stream(vec![Piece::Text("half".into()), Piece::Drop]);
    if setting.cli.abilities().explains_failures {
        return fails(setting, half, "overload");
    }
    // It tries again without end and without a word, and hears an interrupt late
    // or not at all; the turn ends all the same, and the conversation goes on.
    let model = Model::start(move |turn| match word(&turn.news()) {
        "banana" => half.clone(),
        word => {
            let remembers = turn.history().contains("apple");
            Answer::Text(format!("answer to {word}, remembers apple: {remembers}"))
        }
    });
    let tries = |request: &Request| request.text().contains("banana");
    let launcher = setting.launcher(&model);
    let mut run = setting.start(&launcher, &["--prompt", "apple"]);
    let _ = run.wait_for_answers(1);
    run.send("banana");
    drawbridge_tests::eventually("a second try", || {
        let count = model.requests().iter().filter(|it| tries(it)).count();
        (count > 2).then_some(())
    });
    run.request("interrupt");
    let _ = run.wait_for_event("the end of the turn", |event| {
        event["kind"] == "interrupted"
    });
    run.send("cherry");
    let said = run.wait_for_answers(2);
    assert_eq!(said[1], "answer to cherry, remembers apple: true");
    let ended = run.finish();
    assert_eq!(ended.code, 0, "{}", ended.err);
    launcher.assert_nothing_left();

    // The run can be stopped as well.
    let mut run = setting.start(&launcher, &["--prompt", "banana"]);
    let before = model.requests().len();
    drawbridge_tests::eventually("a second try", || {
        (model.requests().len() > before + 2).then_some(())
    });
    run.request("cancel");
    let ended = run.0.wait();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(answers(&ended.out), Vec::<String>::new());
    launcher.assert_nothing_left();
}

/// A run whose model fails each time ends with one error of a kind, and half an
/// answer is not given for one.
fn fails(setting: Setting, failure: Answer, kind: &str) {
    let model = Model::start(move |turn| {
        if turn.news().contains("healthy") {
            Answer::Text("well again".into())
        } else {
            failure.clone()
        }
    });
    let launcher = setting.launcher(&model);
    if setting.cli.kind() == AgentKind::Claude {
        // It would try for minutes.
        let folder = launcher.group("g").join("home/.claude");
        std::fs::create_dir_all(&folder).unwrap();
        let settings = r#"{"env": {"CLAUDE_CODE_MAX_RETRIES": "1"}}"#;
        std::fs::write(folder.join("settings.json"), settings).unwrap();
    }
    let mut run = setting.start(&launcher, &["--group", "g", "--prompt", "sick"]);
    run.0.close_stdin();
    let ended = run.0.wait();
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert_eq!(answers(&ended.out), Vec::<String>::new());
    let errors: Vec<_> = events(&ended.out)
        .into_iter()
        .filter(|event| event["type"] == "result" && event["status"] == "error")
        .collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0]["errorKind"], kind, "{}", errors[0]);
    launcher.assert_nothing_left();

    let ended = setting.run(&launcher, &["--group", "g", "--prompt", "healthy"]);
    assert_eq!(ended.out.trim_end(), "well again", "{}", ended.err);
}
