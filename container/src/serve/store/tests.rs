use std::fs;

use drawbridge_shared::exit::Exit;
use drawbridge_shared::ipc::HostMessage;

use super::*;
use crate::events::{Event, RecordedEvent};
use crate::serve::retry::{Class, Failure, MAX_MANUAL_RETRIES, Next};
use crate::serve::submission::{Stage, StoredSubmission, SubmissionId};

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("queue.db")).unwrap();
    (folder, store)
}

async fn submit(store: &Store, input: &str) -> SubmissionId {
    let stored = StoredSubmission::parse(input.to_owned()).unwrap();
    store.submit(stored, 3).await.unwrap().id
}

fn failure() -> Failure {
    Failure {
        class: Class::AgentFailed,
        code: 1,
        reached_agent: true,
        reason: "no".to_owned(),
        summary: "the agent failed".to_owned(),
        hint: None,
        retry_after: None,
        log: vec!["a".to_owned(), "b".to_owned()],
    }
}

async fn kinds(store: &Store, id: SubmissionId) -> Vec<String> {
    let events = store.events(0, Some(id)).await.unwrap();
    let kind = |event: &LoggedEvent| {
        let event: serde_json::Value = serde_json::from_str(event.event.get()).unwrap();
        event["type"].as_str().unwrap().to_owned()
    };
    events.iter().map(kind).collect()
}

#[tokio::test]
async fn everything_survives_and_the_input_byte_for_byte() {
    let (folder, store) = open();
    let input = "{ \"prompt\" : \"h\\u00e9\",\n\"group\":\"a\" }";
    let id = submit(&store, input).await;
    let claim = store.claim(id).await.unwrap().unwrap();
    assert_eq!(
        (claim.attempt, &*claim.submission.unwrap().prompt),
        (1, "h\u{e9}")
    );
    drop(store);
    let store = Store::open(&folder.path().join("queue.db")).unwrap();
    let left = store.interrupted().await.unwrap();
    assert_eq!((left[0].id, left[0].attempt), (id, 1));
    let ending = Ending::Failed(failure(), Next::GiveUp);
    store.finish(id, 1, &ending).await.unwrap();
    let letter = store.dead_letter(id).await.unwrap();
    assert_eq!(letter.input, input);
    assert_eq!(letter.failures[0].log, "a\nb");
    assert_eq!(kinds(&store, id).await, ["queued", "attempt", "dead"]);
}

#[tokio::test]
async fn an_end_is_final() {
    let (_folder, store) = open();
    let id = submit(&store, r#"{"prompt":"x"}"#).await;
    store.claim(id).await.unwrap();
    store
        .finish(id, 1, &Ending::Done(Exit::Success))
        .await
        .unwrap();
    let late = Ending::Failed(failure(), Next::GiveUp);
    store.finish(id, 1, &late).await.unwrap();
    let stage = store.find(id).await.unwrap().unwrap().stage;
    assert_eq!(stage, Stage::Done);
    assert_eq!(kinds(&store, id).await, ["queued", "attempt", "done"]);
    assert!(store.claim(id).await.unwrap().is_none());
}

#[tokio::test]
async fn the_same_key_is_the_same_submission() {
    let (_folder, store) = open();
    let input = r#"{"prompt":"x","key":"k"}"#;
    assert_eq!(submit(&store, input).await, submit(&store, input).await);
    assert_eq!(store.waiting().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_dead_letter_gets_one_attempt_more_and_only_so_often() {
    let (_folder, store) = open();
    let id = submit(&store, r#"{"prompt":"poison"}"#).await;
    let mut attempts = 0;
    loop {
        let claim = store.claim(id).await.unwrap().unwrap();
        attempts += 1;
        assert_eq!(claim.attempt, attempts, "the count is never reset");
        let ending = Ending::Failed(failure(), Next::GiveUp);
        store.finish(id, claim.attempt, &ending).await.unwrap();
        match store.requeue(id).await {
            Ok(waiting) => assert_eq!(waiting.id, id),
            Err(error) => {
                assert!(error.one_line().contains("3 times already"), "{error:?}");
                break;
            }
        }
        let claim_limit = store.waiting().await.unwrap();
        assert_eq!(claim_limit.len(), 1);
    }
    assert_eq!(attempts, 1 + MAX_MANUAL_RETRIES);
    assert_eq!(store.delete_dead_letters(Some(id)).await.unwrap(), 1);
    assert!(store.events(0, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn follow_ups_that_came_too_late_are_a_submission_of_their_own() {
    let (_folder, store) = open();
    let id = submit(
        &store,
        r#"{"prompt":"x","group":"a","settings":{"model":"m"}}"#,
    )
    .await;
    store.claim(id).await.unwrap();
    for message in [
        r#"{"type":"message","text":"one"}"#,
        r#"{"type":"message","text":"two","attachments":[{"path":"in/a.pdf"}]}"#,
        r#"{"type":"message","text":"three"}"#,
    ] {
        let message: HostMessage = serde_json::from_str(message).unwrap();
        assert!(store.add_follow_up(id, &message).await.unwrap());
    }
    let first = store.undelivered(id).await.unwrap()[0].id;
    store.delivered(first).await.unwrap();
    let done = Ending::Done(Exit::Success);
    let next = store.finish(id, 1, &done).await.unwrap().unwrap();
    let claim = store.claim(next.id).await.unwrap().unwrap();
    let submission = claim.submission.unwrap();
    assert_eq!(submission.prompt, "two\n[Attached file: in/a.pdf]\nthree");
    assert_eq!(submission.settings["model"], "m");
    let message = HostMessage::text("late".to_owned());
    assert!(!store.add_follow_up(id, &message).await.unwrap());
}

#[tokio::test]
async fn the_log_is_read_on_from_any_position() {
    let (_folder, store) = open();
    let id = submit(&store, r#"{"prompt":"x"}"#).await;
    store.claim(id).await.unwrap();
    let mut commits = store.commits();
    commits.mark_unchanged();
    let event = Event::Warning {
        message: "slow".to_owned(),
    };
    let json = serde_json::to_string(&event).unwrap();
    store
        .append(id, 1, &RecordedEvent { event, json })
        .await
        .unwrap();
    commits.changed().await.unwrap();
    let seqs = |events: Vec<LoggedEvent>| events.iter().map(|e| e.seq).collect::<Vec<_>>();
    assert_eq!(seqs(store.events(0, None).await.unwrap()), [1, 2, 3]);
    assert_eq!(seqs(store.events(2, Some(id)).await.unwrap()), [3]);
    assert_eq!(store.last_event().await.unwrap(), 3);
}

#[test]
fn a_damaged_file_is_set_aside_and_said_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    fs::write(&path, vec![0x5a; 8192]).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(error.one_line().contains("is damaged"), "{error:?}");
    let kept = fs::read_dir(folder.path()).unwrap().flatten();
    let kept: Vec<_> = kept.map(|entry| entry.file_name()).collect();
    let is_aside = |name: &&std::ffi::OsString| name.to_string_lossy().contains(".damaged-");
    let aside = kept.iter().find(is_aside).unwrap();
    assert_eq!(fs::read(folder.path().join(aside)).unwrap()[0], 0x5a);
    Store::open(&path).unwrap();
}

#[tokio::test]
async fn a_later_layout_is_refused_and_left_alone() {
    let (folder, store) = open();
    drop(store);
    let path = folder.path().join("queue.db");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Store::open(&path).unwrap_err();
    assert!(error.one_line().contains("has layout 99"), "{error:?}");
    assert!(path.exists());
}

#[tokio::test]
async fn old_results_are_forgotten_and_dead_letters_are_not() {
    let (_folder, store) = open();
    let done = submit(&store, r#"{"prompt":"x"}"#).await;
    let dead = submit(&store, r#"{"prompt":"x"}"#).await;
    for (id, ending) in [
        (done, Ending::Done(Exit::Success)),
        (dead, Ending::Failed(failure(), Next::GiveUp)),
    ] {
        store.claim(id).await.unwrap();
        store.finish(id, 1, &ending).await.unwrap();
    }
    assert_eq!(store.prune(now_ms() + 1000).await.unwrap(), 1);
    assert!(store.find(done).await.unwrap().is_none());
    assert!(store.find(dead).await.unwrap().is_some());
}

/// A reader that waits for the next event would otherwise wake itself for ever.
#[tokio::test]
async fn reading_wakes_nobody() {
    let (_folder, store) = open();
    let mut commits = store.commits();
    submit(&store, r#"{"prompt":"a"}"#).await;
    commits.changed().await.unwrap();
    // The thread is through with a request when it answers the next one.
    for _ in 0..2 {
        let _ = store.events(0, None).await.unwrap();
    }
    assert!(!commits.has_changed().unwrap());
}

/// What is over and well has no reason, nor has what is under way again.
#[tokio::test]
async fn a_reason_is_that_of_the_latest_attempt() {
    let (_folder, store) = open();
    let good = submit(&store, r#"{"prompt":"x"}"#).await;
    let withdrawn = submit(&store, r#"{"prompt":"y"}"#).await;
    let reason = async |id| store.find(id).await.unwrap().unwrap().reason;
    let again = Ending::Failed(failure(), Next::Again(std::time::Duration::ZERO));
    for id in [good, withdrawn] {
        store.claim(id).await.unwrap();
        store.finish(id, 1, &again).await.unwrap();
        assert_eq!(reason(id).await.as_deref(), Some("no"));
    }
    assert!(store.withdraw(withdrawn).await.unwrap());
    assert_eq!(reason(withdrawn).await, None);
    store.claim(good).await.unwrap();
    assert_eq!(reason(good).await, None, "the second attempt is under way");
    let done = Ending::Done(Exit::Success);
    store.finish(good, 2, &done).await.unwrap();
    assert_eq!(reason(good).await, None);
}
