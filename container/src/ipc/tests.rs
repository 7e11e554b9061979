use std::fs;

use tokio::sync::mpsc;

use super::*;
use crate::state::State;

struct Bench {
    _folder: tempfile::TempDir,
    group: Group,
    requests: Requests,
    reporter: Reporter,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Bench {
    fn new(responder: Responder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(folder.path().join("state")).unwrap();
        let group = state.group(&"g".parse().unwrap()).unwrap();
        let snapshot = Snapshot::default().with(group.name());
        let requests = Requests::open(&group, "/w".into(), snapshot, responder).unwrap();
        let (sender, events) = mpsc::unbounded_channel();
        Self {
            _folder: folder,
            group,
            requests,
            reporter: Reporter::Channel(sender),
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

    fn told(&self, name: &str) -> Option<Answer> {
        let bytes = fs::read(self.group.ipc().join("answers").join(name)).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }
}

#[tokio::test]
async fn the_next_line_a_person_types_is_the_answer() {
    let mut bench = Bench::new(Responder::Person);
    assert!(!bench.requests.take_line("a message", &bench.reporter));
    bench.ask("1.json", 60).await;
    assert!(matches!(bench.events.try_recv(), Ok(Event::Request(_))));
    assert!(bench.requests.question_until().is_some());
    assert_eq!(bench.told("1.json"), None);
    assert!(bench.requests.take_line("the blue one", &bench.reporter));
    let text = bench.told("1.json").unwrap().text;
    assert_eq!(text.as_deref(), Some("the blue one"));
    assert!(!bench.requests.take_line("a message", &bench.reporter));
}

#[tokio::test]
async fn a_line_after_the_time_for_a_question_is_a_message() {
    let mut bench = Bench::new(Responder::Person);
    bench.ask("1.json", 0).await;
    assert!(!bench.requests.take_line("a message", &bench.reporter));
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
