//! NanoClaw's own host starts our image and reads its records.

use std::process::Command;

use drawbridge_testkit::engine::docker;
use drawbridge_testkit::nanoclaw::{Project, check, records};
use drawbridge_testkit::{Answer, FAKE_KEY, Model, Program, Upstream, program_path};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Setting, Test};

pub(crate) const TESTS: &[Test] = &[
    ("its_host_can_start_our_image", |setting| {
        its_host_can_start_our_image(setting, None)
    }),
    ("its_host_can_map_its_user", |setting| {
        its_host_can_map_its_user(setting)
    }),
];

fn its_host_can_map_its_user(setting: Setting) {
    its_host_can_start_our_image(setting, Some(1234));
}

/// Its credential proxy's place is taken by ours, in its compatible mode, with
/// the key in `.env` of the working directory.
struct Proxy {
    program: Program,
    port: u16,
    _folder: TempDir,
}

impl Proxy {
    fn start(model: &Upstream) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let env = format!(
            "ANTHROPIC_API_KEY={FAKE_KEY}\nANTHROPIC_BASE_URL={}\n",
            model.url()
        );
        std::fs::write(folder.path().join(".env"), env).unwrap();
        let mut command = Command::new(program_path("credential-proxy-dup"));
        command
            .args(["--client-auth", "placeholder", "--port", "0"])
            .current_dir(folder.path());
        let program = Program::start(&mut command);
        let port = program.wait_for_err("its address", |err| {
            let (_, rest) = err.split_once("172.17.0.1:")?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        Self {
            program,
            port,
            _folder: folder,
        }
    }
}

fn its_host_can_start_our_image(setting: Setting, user: Option<u32>) {
    let model = Model::start(|turn| {
        let word = ["second", "first"]
            .into_iter()
            .find(|word| turn.news().contains(word));
        Answer::Text(format!("answer to {}", word.unwrap_or("nothing")))
    });
    let proxy = Proxy::start(&model);
    let folder = tempfile::tempdir().unwrap();
    let project = Project::create(folder.path(), "family-chat", user.unwrap_or(1000));
    let name = format!(
        "nanoclaw-family-chat-{}",
        std::process::id() + user.unwrap_or(0)
    );
    let image = setting.agent.image();
    let input = json!({
        "prompt": "<messages>\n<message sender=\"Ann\">first</message>\n</messages>",
        "groupFolder": "family-chat", "chatJid": "12036@g.us", "isMain": false,
        "assistantName": "Andy",
    });

    let mut host = Program::start(&mut project.command(&name, proxy.port, user, &image));
    host.write(&input.to_string());
    host.close_stdin();
    let first = wait_for_answer(&host, "answer to first");
    project.send(1, "second");
    let second = wait_for_answer(&host, "answer to second");
    project.close();
    let ended = host.wait();
    assert_eq!(ended.code, 0, "{}", ended.err);
    for record in records(&ended.out) {
        check(&record, &[]);
    }
    let session = first["newSessionId"].as_str().expect("a session id");
    assert_eq!(second["newSessionId"], session);

    // The next container of its host resumes the session.
    let mut input = input;
    input["sessionId"] = session.into();
    input["prompt"] = "another second".into();
    let mut host = Program::start(&mut project.command(&name, proxy.port, user, &image));
    host.write(&input.to_string());
    host.close_stdin();
    let _ = wait_for_answer(&host, "answer to second");
    project.close();
    let _ = host.wait();
    let last = model.requests().pop().unwrap();
    assert!(last.text().contains("first"), "the session was not resumed");
    assert_eq!(last.all("x-api-key"), [FAKE_KEY]);
    let _ = docker(&["rm", "--force", &name]);
    drop(proxy.program);
}

fn wait_for_answer(host: &Program, text: &str) -> Value {
    host.wait_for_out(text, |out| {
        records(out).into_iter().find(|r| r["result"] == text)
    })
}
