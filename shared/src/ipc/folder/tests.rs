//! Behaviour of the input folder, also when the other side misbehaves.

use rustix::fs::Mode;

use super::*;

struct Ipc {
    dir: tempfile::TempDir,
    folder: InputFolder,
}

impl Ipc {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = InputFolder::open(dir.path()).unwrap();
        Self { dir, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("input").join(name)
    }

    fn message(&self, name: &str, text: &str) {
        let content = format!(r#"{{"type":"message","text":"{text}"}}"#);
        write_atomic(&self.path(name), content.as_bytes()).unwrap();
    }

    fn take_all(&self) -> Vec<Result<ClaimedFile, ClaimError>> {
        let pending = self.folder.pending().unwrap();
        pending.iter().map(|file| self.folder.take(file)).collect()
    }

    fn texts(&self) -> Vec<String> {
        let text = |claimed: Result<ClaimedFile, ClaimError>| match claimed.unwrap().message {
            HostMessage::Message { text, .. } => text,
            other => panic!("{other:?}"),
        };
        self.take_all().into_iter().map(text).collect()
    }

    fn assert_rejected(&self, name: &str, reason: &str) {
        let claimed = self.take_all();
        let [Err(ClaimError::Rejected(refusal))] = &claimed[..] else {
            panic!("{claimed:?}");
        };
        assert!(refusal.reason.contains(reason), "{}", refusal.reason);
        assert!(self.path(REJECTED).join(name).symlink_metadata().is_ok());
        let note = self.path(REJECTED).join(format!("{name}.reason"));
        assert_eq!(fs::read_to_string(note).unwrap().trim(), refusal.reason);
    }
}

#[test]
fn messages_come_in_the_order_of_their_names() {
    let ipc = Ipc::new();
    for (name, text) in [("2.json", "b"), ("1.json", "a"), ("3.json", "c")] {
        ipc.message(name, text);
    }
    ipc.message(".hidden.json", "never");
    ipc.message("4.json.tmp", "not yet");
    assert_eq!(ipc.texts(), ["a", "b", "c"]);
    assert_eq!(ipc.texts(), [""; 0], "taken messages do not wait any more");
}

#[test]
fn what_was_not_confirmed_is_delivered_again() {
    let ipc = Ipc::new();
    ipc.message("1.json", "a");
    ipc.message("2.json", "b");
    let claimed: Vec<_> = ipc.take_all().into_iter().map(Result::unwrap).collect();
    ipc.folder.confirm(&claimed[0]).unwrap();
    assert_eq!(ipc.folder.recover().unwrap(), 1);
    assert_eq!(ipc.texts(), ["b"]);
}

#[test]
fn a_reused_name_replaces_nothing() {
    let ipc = Ipc::new();
    ipc.message("1.json", "first");
    assert_eq!(ipc.texts(), ["first"]);
    ipc.message("1.json", "second");
    assert_eq!(ipc.texts(), ["second"]);
    assert_eq!(ipc.folder.recover().unwrap(), 2);
    let mut texts = ipc.texts();
    texts.sort();
    assert_eq!(texts, ["first", "second"]);
}

#[test]
fn unreadable_files_are_set_aside_with_the_reason() {
    for (content, reason) in [
        ("not json", "not a message"),
        (r#"{"type":"message"}"#, "missing field `text`"),
        (r#"{"type":"message","text":""}"#, "the text is empty"),
        (r#"{"type":"reboot"}"#, "unknown variant `reboot`"),
    ] {
        let ipc = Ipc::new();
        write_atomic(&ipc.path("1.json"), content.as_bytes()).unwrap();
        ipc.assert_rejected("1.json", reason);
    }
}

#[test]
fn a_message_with_a_lone_surrogate_is_read() {
    let ipc = Ipc::new();
    ipc.message("1.json", "a\\ud800b");
    assert_eq!(ipc.texts(), ["a\u{fffd}b"]);
}

#[test]
fn a_symlink_is_not_followed() {
    let ipc = Ipc::new();
    let secret = ipc.dir.path().join("secret.json");
    fs::write(&secret, r#"{"type":"message","text":"secret"}"#).unwrap();
    std::os::unix::fs::symlink(&secret, ipc.path("1.json")).unwrap();
    ipc.assert_rejected("1.json", "cannot be opened");
    assert!(secret.exists());
}

#[test]
fn a_pipe_does_not_stall_the_reader() {
    let ipc = Ipc::new();
    let path = ipc.path("1.json");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        Mode::RWXU,
        0,
    )
    .unwrap();
    ipc.assert_rejected("1.json", "not a regular file");
}

#[test]
fn a_folder_with_a_message_name_is_set_aside() {
    let ipc = Ipc::new();
    fs::create_dir(ipc.path("1.json")).unwrap();
    ipc.assert_rejected("1.json", "not a regular file");
}

#[test]
fn a_message_that_is_too_large_is_kept() {
    let ipc = Ipc::new();
    let length = usize::try_from(MAX_MESSAGE_BYTES).unwrap();
    ipc.message("1.json", &"x".repeat(length));
    ipc.assert_rejected("1.json", "larger than");
}

#[test]
fn a_request_to_close_is_taken_once() {
    let ipc = Ipc::new();
    assert_eq!(ipc.folder.take_close().unwrap(), None);
    fs::write(ipc.path(CLOSE), "").unwrap();
    let request = ipc.folder.take_close().unwrap().unwrap();
    assert_eq!(request.run_id, None);
    assert_eq!(ipc.folder.take_close().unwrap(), None);
    assert_eq!(ipc.folder.recover().unwrap(), 0, "nothing is left of it");
}

#[test]
fn a_request_to_close_says_which_run_it_is_for() {
    let ipc = Ipc::new();
    fs::write(ipc.path(CLOSE), "run-0011223344556677\n").unwrap();
    let request = ipc.folder.take_close().unwrap().unwrap();
    let run_id = request.run_id.map(|id| id.to_string());
    assert_eq!(run_id.as_deref(), Some("run-0011223344556677"));
}

/// A runner that is killed in between has moved the request, and not judged it.
#[test]
fn a_request_to_close_that_was_moved_only_is_there_again_with_its_age() {
    let ipc = Ipc::new();
    fs::write(ipc.path(CLOSE), "").unwrap();
    let written = fs::metadata(ipc.path(CLOSE)).unwrap().modified().unwrap();
    fs::rename(ipc.path(CLOSE), ipc.path(CLAIMED).join(CLOSE)).unwrap();
    assert_eq!(ipc.folder.recover().unwrap(), 1);
    let request = ipc.folder.take_close().unwrap().unwrap();
    assert_eq!(request.modified, written);
}

#[test]
fn a_folder_is_no_request_to_close() {
    let ipc = Ipc::new();
    fs::create_dir(ipc.path(CLOSE)).unwrap();
    assert_eq!(ipc.folder.take_close().unwrap(), None);
    assert!(ipc.path(REJECTED).join(CLOSE).is_dir());
}

/// A host may replace a stale request in the moment in which it is looked at.
#[test]
fn a_fresh_request_to_close_is_not_removed_with_a_stale_one() {
    let ipc = Ipc::new();
    let (seen, last_seen) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let ipc = &ipc;
        let host = scope.spawn(move || {
            let deadline = std::time::Duration::from_secs(30);
            for number in 0..500 {
                for age in ["stale", "fresh"] {
                    let next = ipc.path("next");
                    fs::write(&next, format!("{age}-{number:010}")).unwrap();
                    fs::rename(next, ipc.path(CLOSE)).unwrap();
                }
                let fresh = format!("fresh-{number:010}");
                while last_seen.recv_timeout(deadline).unwrap() != fresh {}
            }
        });
        while !host.is_finished() {
            if let Some(request) = ipc.folder.take_close().unwrap() {
                // The host may have seen what it waits for, and be done.
                let _ = seen.send(request.run_id.unwrap().to_string());
            }
        }
    });
}
