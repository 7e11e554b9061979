//! Failures of the upstream: a clear error, and the next run works.

use std::sync::atomic::{AtomicBool, Ordering};

use drawbridge_testkit::launcher::{answers, errors};
use drawbridge_testkit::{Answer, Launcher, Model, Piece};

use crate::{Setting, Test};

pub(crate) const TESTS: &[Test] = &[
    ("upstream_401", |setting| {
        refused(setting, 401, "authentication_error")
    }),
    ("upstream_403", |setting| {
        refused(setting, 403, "permission_error")
    }),
    ("upstream_529", |setting| {
        refused(setting, 529, "overloaded_error")
    }),
    ("upstream_429", |setting| {
        refused(setting, 429, "rate_limit_error")
    }),
    ("upstream_500", |setting| refused(setting, 500, "api_error")),
    ("upstream_drops_a_stream_once", upstream_drops_a_stream_once),
    ("upstream_resets_once", upstream_resets_once),
    ("upstream_is_silent_once", upstream_is_silent_once),
];

fn refused(setting: Setting, status: u16, kind: &'static str) {
    let model = Model::start(move |turn| {
        if turn.news().contains("healthy") {
            Answer::Text("well again".into())
        } else {
            Answer::Error { status, kind }
        }
    });
    let launcher = Launcher::new(setting.credential, &model);
    let args = |prompt| [&setting.flags()[..], &["--prompt", prompt]].concat();
    let mut run = launcher.start(&args("sick"));
    run.0.close_stdin();
    let ended = run.0.wait();
    assert_eq!(answers(&ended.out), Vec::<String>::new());
    let errors = errors(&ended.out);
    assert!(
        errors
            .iter()
            .any(|error| error.contains(&status.to_string())),
        "{errors:?}"
    );
    assert_eq!(ended.code, 1, "{}", ended.err);
    launcher.assert_nothing_left();

    let ended = launcher.run(&[&["run"][..], &setting.flags(), &["--prompt", "healthy"]].concat());
    assert_eq!(ended.out.trim_end(), "well again", "{}", ended.err);
}

fn upstream_drops_a_stream_once(setting: Setting) {
    fails_once(setting, || {
        Answer::Stream(vec![Piece::Text("half".into()), Piece::Drop])
    });
}

fn upstream_resets_once(setting: Setting) {
    fails_once(setting, || Answer::Reset);
}

/// The proxy gives up at its deadline, and nothing needs a restart.
fn upstream_is_silent_once(setting: Setting) {
    fails_once(setting, || Answer::Silence);
}

/// A dropped connection is tried again by the agent, or reported; in neither
/// case does it hang, and half an answer is never given as a whole one.
fn fails_once(setting: Setting, failure: fn() -> Answer) {
    let has_failed = AtomicBool::new(false);
    let model = Model::start(move |_| {
        if has_failed.swap(true, Ordering::SeqCst) {
            Answer::Text("whole".into())
        } else {
            failure()
        }
    });
    let launcher = Launcher::new(setting.credential, &model);
    let file = launcher.working_directory().join("drawbridge.toml");
    std::fs::write(file, "[proxy]\ndeadlines = { first-byte = \"2s\" }\n").unwrap();
    let mut run = launcher.start(&[&setting.flags()[..], &["--prompt", "go"]].concat());
    run.0.close_stdin();
    let ended = run.0.wait();
    let (answers, errors) = (answers(&ended.out), errors(&ended.out));
    match ended.code {
        0 => assert_eq!(answers, ["whole"]),
        _ => assert!(
            answers.is_empty() && !errors.is_empty(),
            "{answers:?} {errors:?}"
        ),
    }
    let ended = launcher.run(&[&["run"][..], &setting.flags(), &["--prompt", "again"]].concat());
    assert_eq!(ended.out.trim_end(), "whole", "{}", ended.err);
    launcher.assert_nothing_left();
}
