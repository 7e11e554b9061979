//! Whole conversations, in every combination of network and credential.

use drawbridge_testkit::{Answer, Gate, Launcher, Model, Piece};

use crate::{Setting, Test};

pub(crate) const TESTS: &[Test] = &[
    ("single_turn", single_turn),
    ("two_turns", two_turns),
    ("follow_up_while_busy", follow_up_while_busy),
    ("tool_use", tool_use),
    ("resume_in_a_second_run", resume_in_a_second_run),
    (
        "close_ends_an_idle_conversation",
        close_ends_an_idle_conversation,
    ),
];

/// Also the plain form: the answer alone on standard output.
fn single_turn(setting: Setting) {
    let model =
        Model::start(|turn| Answer::Text(format!("answer to {}", first_word(&turn.news()))));
    let launcher = Launcher::new(setting.credential, &model);
    let args = [&["run"][..], &setting.flags(), &["--prompt", "apple"]].concat();
    let ended = launcher.run(&args);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.out.trim_end(), "answer to apple");
    setting.credential.assert_injected(&model);
    launcher.assert_nothing_left();
}

/// The word of the test in a message that the agent may have wrapped.
fn first_word(news: &str) -> &'static str {
    let words = ["apple", "banana", "cherry"];
    words
        .into_iter()
        .rfind(|word| news.contains(word))
        .unwrap_or("nothing")
}

fn two_turns(setting: Setting) {
    let model =
        Model::start(|turn| Answer::Text(format!("answer to {}", first_word(&turn.news()))));
    let launcher = Launcher::new(setting.credential, &model);
    let mut run = launcher.start(&[&setting.flags()[..], &["--prompt", "apple"]].concat());
    assert_eq!(run.wait_for_answers(1), ["answer to apple"]);
    run.send("banana");
    assert_eq!(
        run.wait_for_answers(2),
        ["answer to apple", "answer to banana"]
    );
    let ended = run.finish();
    assert_eq!(ended.code, 0, "{}", ended.err);
    launcher.assert_nothing_left();
}

fn follow_up_while_busy(setting: Setting) {
    let gate = Gate::new();
    let held = gate.clone();
    let model = Model::start(move |turn| {
        let word = first_word(&turn.news());
        let text = Piece::Text(format!("answer to {word}"));
        match word {
            "apple" => Answer::Stream(vec![Piece::Wait(held.clone()), text]),
            _ => Answer::Stream(vec![text]),
        }
    });
    let launcher = Launcher::new(setting.credential, &model);
    let mut run = launcher.start(&[&setting.flags()[..], &["--prompt", "apple"]].concat());
    gate.wait_for_arrival();
    run.send("banana");
    // The message is in the agent's hands before the first answer is complete.
    let input = launcher.state();
    drawbridge_testkit::eventually("the follow-up to be handed over", || {
        let files = drawbridge_testkit::launcher::files_below(&input);
        let is_waiting = |file: &std::path::PathBuf| {
            file.parent()
                .is_some_and(|folder| folder.ends_with("input"))
                && file
                    .extension()
                    .is_some_and(|extension| extension == "json")
        };
        (!files.iter().any(is_waiting)).then_some(())
    });
    gate.open();
    assert_eq!(
        run.wait_for_answers(2),
        ["answer to apple", "answer to banana"]
    );
    assert_eq!(run.finish().code, 0);
    let last = model.requests().pop().unwrap().text();
    assert!(last.contains("apple") && last.contains("banana"));
}

fn tool_use(setting: Setting) {
    let tool = setting.agent.shell_tool();
    let model = Model::start(move |turn| {
        if turn.has_tool_result() {
            let is_done = turn.news().contains("tool-42");
            return Answer::Text(format!("the tool ran: {is_done}"));
        }
        Answer::bash(tool, "echo tool-$((6*7)) | tee made-by-tool")
    });
    let launcher = Launcher::new(setting.credential, &model);
    let flags = [
        &["run"][..],
        &setting.flags(),
        &["--group", "g", "--prompt", "apple"],
    ]
    .concat();
    let ended = launcher.run(&flags);
    assert_eq!(ended.out.trim_end(), "the tool ran: true", "{}", ended.err);
    let made = std::fs::read_to_string(launcher.group("g").join("workspace/made-by-tool"));
    assert_eq!(made.unwrap(), "tool-42\n");
    setting.credential.assert_injected(&model);
}

fn resume_in_a_second_run(setting: Setting) {
    let model = Model::start(|turn| {
        let remembers = turn.history().contains("apple");
        Answer::Text(format!("remembers apple: {remembers}"))
    });
    let launcher = Launcher::new(setting.credential, &model);
    let run = |prompt| {
        let flags = [
            &["run"][..],
            &setting.flags(),
            &["--group", "g", "--prompt", prompt],
        ]
        .concat();
        let ended = launcher.run(&flags);
        assert_eq!(ended.code, 0, "{}", ended.err);
        ended.out.trim_end().to_owned()
    };
    assert_eq!(run("apple"), "remembers apple: true");
    assert_eq!(run("banana"), "remembers apple: true");
    // A group of its own remembers nothing.
    let other = [
        &["run"][..],
        &setting.flags(),
        &["--group", "h", "--prompt", "banana"],
    ]
    .concat();
    assert_eq!(
        launcher.run(&other).out.trim_end(),
        "remembers apple: false"
    );
}

fn close_ends_an_idle_conversation(setting: Setting) {
    let model = Model::start(|_| Answer::Text("hello".into()));
    let launcher = Launcher::new(setting.credential, &model);
    let args = [&setting.flags()[..], &["--group", "g", "--prompt", "apple"]].concat();
    let mut run = launcher.start(&args);
    let _ = run.wait_for_answers(1);
    let container = launcher.container();
    std::fs::write(launcher.group("g").join("ipc/input/_close"), "").unwrap();
    let ended = run.0.wait();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(!container.is_running());
    launcher.assert_nothing_left();
}
