//! Failures of the vendor's API: an error of the right kind, and the next run
//! works.

use drawbridge_shared::protocol::AgentKind;
use drawbridge_testkit::launcher::{Run, answers, events};
use drawbridge_testkit::{Answer, Model, Piece};

use crate::Test;
use crate::cli::Setting;

pub(crate) const TESTS: &[Test] = &[
    ("upstream_401", upstream_401),
    ("upstream_drops_every_stream", upstream_drops_every_stream),
];

fn upstream_401(setting: Setting) {
    let refusal = Answer::Error {
        status: 401,
        kind: "authentication_error",
    };
    fails(setting, refusal, "auth");
}

fn upstream_drops_every_stream(setting: Setting) {
    let half = Answer::Stream(vec![Piece::Text("half".into()), Piece::Drop]);
    fails(setting, half, "overload");
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
    wait_through_retries(&run);
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

/// Waits for the turn's end. Agents pause before they try a call again, and all
/// pauses together are longer than one wait may be.
fn wait_through_retries(run: &Run) {
    let mut seen = 0;
    let mut is_over = false;
    while !is_over {
        (seen, is_over) = run.0.wait_for_out("another try, or the end", |out| {
            let events = events(out);
            let tries = events.iter().filter(|it| it["progress"]["type"] == "retry");
            let tries = tries.count();
            let is_over = events.iter().any(|it| it["type"] == "result");
            (is_over || tries > seen).then_some((tries, is_over))
        });
    }
}
