use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::events::{Listener, channel};
use crate::state::State;

struct Bench {
    _folder: tempfile::TempDir,
    group: Group,
    requests: Requests,
    reporter: Reporter,
    events: Listener,
}

impl Bench {
    fn new(responder: Responder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(folder.path().join("state")).unwrap();
        let group = state.group(&"g".parse().unwrap()).unwrap();
        let snapshot = Snapshot::default().with(group.name());
        let requests = Requests::open(&group, "/w".into(), snapshot, responder).unwrap();
        let (reporter, events) = channel();
        Self {
            _folder: folder,
            group,
            requests,
            reporter,
            events,
        }
    }

    /// The agent asks, and the request is taken.
    async fn ask(&mut self, name: &str, seconds: u64) {
        let question = serde_json::json!({
            "type": "ask_user", "chatJid": "g@drawbridge", "question": "Which?",
            "timeoutSeconds": seconds
        });
        let file = self.group.ipc().join("messages").join(name);
        fs::write(file, question.to_string()).unwrap();
        self.requests.inbox.look_again();
        self.requests.changed().await;
        assert!(self.requests.handle(&self.reporter));
    }

    /// Handles requests until none comes any more.
    async fn settle(&mut self) {
        let soon = Duration::from_millis(200);
        while timeout_at(Instant::now() + soon, self.requests.changed())
            .await
            .is_ok()
        {
            self.requests.handle(&self.reporter);
        }
    }

    /// How many files are still in the agent's reach.
    fn on_disk(&self) -> usize {
        fs::read_dir(self.group.ipc().join("messages"))
            .unwrap()
            .count()
    }

    fn told(&self, name: &str) -> Option<Answer> {
        let bytes = fs::read(self.group.ipc().join("answers").join(name)).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }
}

#[tokio::test]
async fn the_next_line_a_person_types_is_the_answer() {
    let mut bench = Bench::new(Responder::Person);
    assert!(
        !bench
            .requests
            .answer_with_line("a message", &bench.reporter)
    );
    bench.ask("1.json", 60).await;
    let told = bench.events.recv().await.unwrap();
    assert!(matches!(told.event, Event::Request(_)));
    assert!(bench.requests.question_until().is_some());
    assert_eq!(bench.told("1.json"), None);
    assert!(
        bench
            .requests
            .answer_with_line("the blue one", &bench.reporter)
    );
    let text = bench.told("1.json").unwrap().text;
    assert_eq!(text.as_deref(), Some("the blue one"));
    assert!(
        !bench
            .requests
            .answer_with_line("a message", &bench.reporter)
    );
}

#[tokio::test]
async fn a_line_after_the_time_for_a_question_is_a_message() {
    let mut bench = Bench::new(Responder::Person);
    bench.ask("1.json", 0).await;
    assert!(
        !bench
            .requests
            .answer_with_line("a message", &bench.reporter)
    );
    assert!(!bench.told("1.json").unwrap().ok);
}

#[tokio::test]
async fn who_has_gone_is_not_waited_for() {
    let mut bench = Bench::new(Responder::Person);
    bench.ask("1.json", 60).await;
    bench.requests.nobody_answers(&bench.reporter);
    assert!(!bench.told("1.json").unwrap().ok);
    bench.ask("2.json", 60).await;
    assert!(!bench.told("2.json").unwrap().ok);
    assert_eq!(bench.requests.question_until(), None);
}

/// A flood waits on disk, and so does what the agent sends meanwhile.
#[tokio::test(start_paused = true)]
async fn a_flood_is_taken_a_bounded_number_at_a_time() {
    let mut bench = Bench::new(Responder::Program);
    let message = serde_json::json!({
        "type": "message", "chatJid": "g@drawbridge", "text": "x"
    });
    for number in 0..250 {
        let file = bench.group.ipc().join(format!("tasks/{number:03}.json"));
        fs::write(file, message.to_string()).unwrap();
    }
    let mut looks = 0;
    while bench.requests.open.len() < 250 {
        bench.requests.inbox.look_again();
        bench.requests.changed().await;
        let before = bench.requests.open.len();
        bench.requests.handle(&bench.reporter);
        assert!(bench.requests.open.len() - before <= 100);
        looks += 1;
    }
    assert!(looks >= 3, "{looks}");
}

/// Whoever is slow is not given more than a bounded number; the rest waits on
/// disk, and is handled when there is room again.
#[tokio::test]
async fn what_the_handler_has_no_time_for_waits_on_disk() {
    const ALL: usize = 80;
    let folder = tempfile::tempdir().unwrap();
    let [program, one, go] = ["slow", "one", "go"].map(|name| folder.path().join(name));
    let (may_one, may_all) = (one.display(), go.display());
    let wait = format!("until [ -e {may_all} ] || rm {may_one} 2>&-; do sleep 0.01; done");
    fs::write(
        &program,
        format!("#!/bin/sh\n{wait}\necho '{{\"ok\":true}}'\n"),
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let mut bench = Bench::new(Responder::Handler(Handler::new(program)));
    let message = serde_json::json!({
        "type": "message", "chatJid": "g@drawbridge", "text": "x".repeat(500_000)
    });
    let name = |number: usize| format!("{number:03}.json");
    let messages = bench.group.ipc().join("messages");
    for number in 0..ALL {
        fs::write(messages.join(name(number)), message.to_string()).unwrap();
    }
    bench.settle().await;
    assert_eq!(bench.on_disk(), ALL - 32);

    // Each that ends makes room for one.
    let deadline = Instant::now() + Duration::from_secs(60);
    fs::write(&one, "").unwrap();
    while (0..ALL).all(|number| bench.told(&name(number)).is_none()) {
        timeout_at(deadline, bench.requests.changed())
            .await
            .unwrap();
        bench.requests.handle(&bench.reporter);
    }
    bench.settle().await;
    assert_eq!(bench.on_disk(), ALL - 33);

    fs::write(go, "").unwrap();
    while (0..ALL).any(|number| bench.told(&name(number)).is_none()) {
        timeout_at(deadline, bench.requests.changed())
            .await
            .unwrap();
        bench.requests.handle(&bench.reporter);
    }
    assert!((0..ALL).all(|number| bench.told(&name(number)).unwrap().ok));
}

#[tokio::test]
async fn one_question_too_many_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("slow");
    fs::write(&program, "#!/bin/sh\nexec sleep 60\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let mut bench = Bench::new(Responder::Handler(Handler::new(program)));
    for number in 0..33 {
        bench.ask(&format!("{number:02}.json"), 60).await;
    }
    assert_eq!(bench.told("31.json"), None);
    let refused = bench.told("32.json").unwrap();
    assert!(!refused.ok && refused.text.unwrap().contains("too many questions"));
}

/// What nobody has time for at the end of a run waits for the next one.
#[tokio::test(start_paused = true)]
async fn what_a_run_ends_before_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("slow");
    fs::write(&program, "#!/bin/sh\nexec sleep 60\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let mut bench = Bench::new(Responder::Handler(Handler::new(program)));
    let message = serde_json::json!({
        "type": "message", "chatJid": "g@drawbridge", "text": "x"
    });
    for number in 0..80 {
        let file = bench.group.ipc().join(format!("messages/{number:03}.json"));
        fs::write(file, message.to_string()).unwrap();
    }
    bench.requests.finish(&bench.reporter).await;
    assert_eq!(bench.on_disk(), 80 - 32);
}
