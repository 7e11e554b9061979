//! No follow-up is lost, and none comes twice without a crash between.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use drawbridge_testkit::engine::HostProcess;
use drawbridge_testkit::launcher::files_below;
use drawbridge_testkit::{Answer, Gate, Launcher, Model, Piece, Upstream};
use serde_json::json;

use crate::{Setting, Test};

pub(crate) const TESTS: &[Test] = &[(
    "two_hundred_with_a_killed_runner",
    two_hundred_with_a_killed_runner,
)];

fn two_hundred_with_a_killed_runner(setting: Setting) {
    let (first_turn, dying_turn) = (Gate::new(), Gate::new());
    let model = model(first_turn.clone(), dying_turn.clone());
    let launcher = Launcher::new(setting.credential, &model);
    let input = launcher.group("g").join("ipc/input");
    fs::create_dir_all(&input).unwrap();
    let args = |prompt| [&setting.flags()[..], &["--group", "g", "--prompt", prompt]].concat();

    // Before the turn.
    burst(&input, 0..40);
    let mut run = launcher.start(&args("start-here"));
    first_turn.wait_for_arrival();
    // During the turn.
    burst(&input, 40..80);
    first_turn.open();
    let _ = run.wait_for_answers(1);
    // After the turn; the runner dies while the agent works on them, and while
    // it has more in hand that it has not confirmed.
    burst(&input, 80..100);
    dying_turn.wait_for_arrival();
    burst(&input, 100..120);
    let taken = input.join(".taken");
    drawbridge_testkit::eventually("the busy agent to be given more", || {
        (!numbers_in(&taken).is_empty()).then_some(())
    });
    let processes = launcher.container().processes();
    let runner = processes
        .iter()
        .find(|process| is_outer_runner(**process))
        .unwrap();
    runner.kill();
    let _ = run.0.wait();
    dying_turn.open();
    let unconfirmed: BTreeSet<u32> = numbers_in(&taken);
    assert!(!unconfirmed.is_empty(), "the crash hit nothing");

    // Before the second run, during it and after its first turn.
    burst(&input, 120..150);
    let mut run = launcher.start(&args("go-on"));
    burst(&input, 150..180);
    let _ = run.wait_for_answers(1);
    burst(&input, 180..200);
    drawbridge_testkit::eventually("all files to be taken and confirmed", || {
        numbers_in(&input).is_empty().then_some(())
    });
    run.send("the-last-word");
    model.wait_for("the last message", |request| {
        request.text().contains("the-last-word")
    });
    let ended = run.finish();
    assert_eq!(ended.code, 0, "{}", ended.err);

    each_came_once(&model, &unconfirmed);
}

/// A model that holds the first turn, and a later one with many follow-ups.
fn model(first_turn: Gate, dying_turn: Gate) -> Upstream {
    Model::start(move |turn| {
        let news = turn.news();
        let answer = Piece::Text("answer-7781".into());
        if news.contains("start-here") && !turn.history().contains("answer-7781") {
            Answer::Stream(vec![Piece::Wait(first_turn.clone()), answer])
        } else if news.contains(&text_of(80)) {
            Answer::Stream(vec![Piece::Wait(dying_turn.clone()), answer])
        } else {
            Answer::Stream(vec![answer])
        }
    })
}

/// What the agent had not confirmed when it was killed may come once more.
fn each_came_once(model: &Upstream, unconfirmed: &BTreeSet<u32>) {
    let last = model
        .requests()
        .into_iter()
        .rfind(|r| r.text().contains("the-last-word"));
    let history = last.unwrap().text();
    for number in 0..200 {
        let count = history.matches(&text_of(number)).count();
        let allowed = if unconfirmed.contains(&number) {
            1..=2
        } else {
            1..=1
        };
        assert!(
            allowed.contains(&count),
            "message {number} came {count} times; {unconfirmed:?}"
        );
    }
}

fn is_outer_runner(process: HostProcess) -> bool {
    let line = process.command_line();
    line.contains("agent-runner") && !line.contains("supervise") && !line.contains("tied")
}

fn text_of(number: u32) -> String {
    format!("follow-up-{number:03};")
}

fn burst(input: &Path, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let message = json!({ "type": "message", "text": text_of(number) }).to_string();
        let draft = input.join(format!("{number:06}.tmp"));
        fs::write(&draft, message).unwrap();
        fs::rename(
            draft,
            input.join(format!(
                "{:013}-{number:03}.json",
                1_700_000_000_000_u64 + u64::from(number)
            )),
        )
        .unwrap();
    }
}

/// Numbers of the follow-ups whose files are below a folder.
fn numbers_in(folder: &Path) -> BTreeSet<u32> {
    let texts = files_below(folder)
        .into_iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    texts
        .filter_map(|text| {
            let (_, rest) = text.split_once("follow-up-")?;
            rest.get(..3)?.parse().ok()
        })
        .collect()
}
