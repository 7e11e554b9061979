use std::fs;

use drawbridge_shared::marker::{DEFAULT_MAX_RECORD_BYTES, Markers};

use super::*;
use crate::engine::Runtime;
use crate::events::channel;
use crate::requests::Snapshot;
use crate::run::broker::Responder;
use crate::spec::User;
use crate::state::State;

/// Its sender tries again and again, which is neither news nor a sign of life.
#[tokio::test]
async fn a_follow_up_that_is_held_up_is_told_once_until_one_gets_through() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::at(folder.path().join("state")).unwrap();
    let group = state.group(&"g".parse().unwrap()).unwrap();
    let snapshot = Snapshot::default().with(group.name());
    let requests = Requests::open(&group, "/w".into(), snapshot, Responder::Person).unwrap();
    let run = RunId::random().unwrap();
    let context = RunContext {
        folder: state.new_run(&run).unwrap(),
        run,
        state: &state,
        settings: RunSettings::fixed(&[]).unwrap(),
        runtime: Runtime::Host,
        user: User::of_launcher(),
        network: None,
    };
    let (reporter, mut events) = channel();
    let scanner = Scanner::new(Markers::new(None), DEFAULT_MAX_RECORD_BYTES);
    let mut monitor = RunMonitor::new(&context, &group, reporter, scanner, requests);

    let message = serde_json::from_str(r#"{"type":"message","text":"two"}"#).unwrap();
    let file = "1.json".to_owned();
    let prepare = RunControl::Prepare {
        file: file.clone(),
        message,
    };
    let hand_over = RunControl::HandOver { file };
    let away = folder.path().join("away");
    for _ in 0..2 {
        fs::rename(group.folder(), &away).unwrap();
        monitor.take_follow_up(Some(prepare.clone()));
        let last_activity = monitor.state.last_activity;
        monitor.take_follow_up(Some(prepare.clone()));
        monitor.take_follow_up(Some(hand_over.clone()));
        assert_eq!(monitor.state.last_activity, last_activity);
        fs::rename(&away, group.folder()).unwrap();
        monitor.take_follow_up(Some(prepare.clone()));
        monitor.take_follow_up(Some(hand_over.clone()));
        assert!(monitor.state.last_activity > last_activity);
    }
    assert_eq!(monitor.state.sent, 3);
    drop(monitor);
    let mut warnings = 0;
    while let Some(told) = events.recv().await {
        let Event::Warning { message } = told.event else {
            panic!("an unexpected event: {:?}", told.event);
        };
        assert!(message.starts_with("a follow-up waits: "), "{message}");
        warnings += 1;
    }
    assert_eq!(warnings, 2);
}
