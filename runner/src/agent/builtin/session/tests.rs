use std::thread;
use std::time::{Duration, Instant};

use super::*;

fn text(text: &str) -> Vec<Value> {
    vec![json!({"type": "text", "text": text})]
}

fn conversation() -> Vec<Message> {
    vec![
        Message::user(text("one\ntwo \u{2028} \0")),
        Message::assistant(vec![
            json!({"type": "tool_use", "id": "t1", "name": "bash", "input": {}}),
        ]),
        Message::user(vec![
            json!({"type": "tool_result", "tool_use_id": "t1", "content": "x"}),
        ]),
        Message::assistant(text("done")),
    ]
}

/// Resumes; a child that another test is just starting may hold a copy of the
/// lock until it has become its program.
fn resume(home: &Path, id: &AgentSessionId) -> Session {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match Session::resume(home, id) {
            Err(SessionError::InUse(_)) if Instant::now() < deadline => thread::yield_now(),
            other => return other.unwrap(),
        }
    }
}

fn saved(home: &Path) -> AgentSessionId {
    let mut session = Session::create(home).unwrap();
    for message in conversation() {
        session.append(message).unwrap();
    }
    session.id().clone()
}

#[test]
fn a_conversation_cut_at_any_byte_goes_on_with_its_whole_messages() {
    let home = tempfile::tempdir().unwrap();
    let id = saved(home.path());
    let path = file_of(home.path(), &id);
    let whole = fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut session = resume(home.path(), &id);
        let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
        let mut expected = conversation()[..lines].to_vec();
        if lines == 2 {
            // The call without a result was answered.
            let result = session.messages()[2].content[0].clone();
            assert_eq!(
                (&result["tool_use_id"], &result["is_error"]),
                (&json!("t1"), &json!(true))
            );
            expected.push(Message::user(vec![result]));
        }
        assert_eq!(session.messages(), expected, "cut at {cut}");

        expected.push(Message::user(text("more")));
        session.append(Message::user(text("more"))).unwrap();
        drop(session);
        let again = resume(home.path(), &id);
        assert_eq!(again.messages(), expected, "cut at {cut}");
    }
}

#[test]
fn only_one_run_can_have_a_conversation() {
    let home = tempfile::tempdir().unwrap();
    let session = Session::create(home.path()).unwrap();
    let error = Session::resume(home.path(), session.id()).unwrap_err();
    assert!(matches!(error, SessionError::InUse(_)) && !error.is_lost());
}

#[test]
fn a_damaged_conversation_is_lost_and_its_file_kept() {
    let home = tempfile::tempdir().unwrap();
    let id = saved(home.path());
    let path = file_of(home.path(), &id);
    fs::write(&path, "{\"role\":\"user\",\"content\":[]}\nnonsense\n").unwrap();
    let error = Session::resume(home.path(), &id).unwrap_err();
    assert!(error.is_lost());
    assert_eq!(
        error.describe(),
        format!("conversation {id} cannot be read: line 2 is not a message")
    );
    assert!(path.exists());
}

#[test]
fn a_home_that_cannot_be_written_is_named() {
    let error = Session::create(Path::new("/proc/nowhere")).unwrap_err();
    assert!(
        error
            .describe()
            .starts_with("cannot open /proc/nowhere/.drawbridge/sessions: ")
    );
}
