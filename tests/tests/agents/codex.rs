//! What only Codex has: a login of its own.

use drawbridge_testkit::{Answer, Model};

use crate::Test;
use crate::cli::{Setting, word};
use crate::suite;

pub(crate) const TESTS: &[Test] = &[
    suite::CHAT_TEXT,
    (
        "a_login_of_codex_serves_a_turn",
        a_login_of_codex_serves_a_turn,
    ),
];

fn a_login_of_codex_serves_a_turn(setting: Setting) {
    let model = Model::start(|turn| Answer::Text(format!("answer to {}", word(&turn.news()))));
    let launcher = setting.launcher(&model);
    let (token, account) = launcher.log_in_to_codex();
    let ended = setting.run(&launcher, &["--prompt", "apple"]);
    assert_eq!(
        (ended.code, ended.out.trim_end()),
        (0, "answer to apple"),
        "{}",
        ended.err
    );
    for request in model.requests() {
        assert_eq!(request.path(), "/backend-api/codex/responses");
        assert_eq!(request.all("authorization"), [format!("Bearer {token}")]);
        assert_eq!(request.all("chatgpt-account-id"), [account]);
    }
}
