//! What the images and the demo promise, whatever the agent.

use drawbridge_testkit::engine::docker_ok;
use drawbridge_testkit::{Answer, Launcher, Model};

use crate::{Agent, Setting, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_missing_image_is_named_with_a_way_out",
        a_missing_image_is_named_with_a_way_out,
    ),
    ("the_builtin_image_is_small", the_builtin_image_is_small),
    (
        "the_demo_is_sealed_where_it_can_be",
        the_demo_is_sealed_where_it_can_be,
    ),
];

fn a_missing_image_is_named_with_a_way_out(setting: Setting) {
    let model = Model::start(|_| Answer::Text("never".into()));
    let launcher = Launcher::new(setting.credential, &model);
    let flags = [
        &["run"][..],
        &setting.flags(),
        &["--image", "nowhere/none:1"],
    ]
    .concat();
    let ended = launcher.run(&[&flags[..], &["--prompt", "go"]].concat());
    assert_eq!((ended.code, ended.out.as_str()), (3, ""), "{}", ended.err);
    let named = ended.err.contains("nowhere/none:1") && ended.err.contains("hint: ");
    assert!(named, "{}", ended.err);
    assert_eq!(model.requests().len(), 0);
}

/// The budget of the image that holds nothing but the runner and busybox.
fn the_builtin_image_is_small(_: Setting) {
    let image = Agent::Builtin.image();
    let size = docker_ok(&["image", "inspect", "--format", "{{.Size}}", &image]);
    assert!(size.parse::<u64>().unwrap() < 20_000_000, "{size} bytes");
}

fn the_demo_is_sealed_where_it_can_be(setting: Setting) {
    let model = Model::start(|_| Answer::Text("never".into()));
    let launcher = Launcher::new(setting.credential, &model);
    let ended = launcher.run(&["demo"]);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert!(!ended.out.contains("NOT isolated"), "{}", ended.out);
    assert!(ended.out.contains("sealed"), "{}", ended.out);
    launcher.assert_nothing_left();
}
