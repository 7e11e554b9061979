use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

fn event(number: u64) -> Event {
    Event::Session {
        action: "issued",
        session: format!("{number:016x}"),
        run: "run-12345678".to_owned(),
    }
}

async fn write(path: &Path, events: std::ops::Range<u64>) {
    let log = AuditLog::open(path.to_owned(), Fsync::Never).unwrap();
    for number in events {
        log.permit().unwrap().write(event(number));
    }
    log.close(DEADLINE).await.unwrap();
}

/// A file of ten records: opened, eight events, closed.
async fn ten_records() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    write(&path, 0..8).await;
    (folder, path)
}

fn anchor_of(path: &Path) -> Anchor {
    let text = fs::read_to_string(format!("{}.anchor", path.display())).unwrap();
    text.parse().unwrap()
}

fn verify_one(path: &Path) -> Result<Report, VerifyError> {
    verify(&[path.to_owned()], Some(anchor_of(path)))
}

/// The lines of the file after `change`, with all ends in place.
fn tamper(path: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let mut lines: Vec<_> = fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    change(&mut lines);
    fs::write(path, lines.join("\n") + "\n").unwrap();
}

#[tokio::test]
async fn an_untouched_file_is_intact() {
    let (_folder, path) = ten_records().await;
    let report = verify_one(&path).unwrap();
    assert_eq!((report.records, report.first, report.last.seq), (10, 1, 10));
    assert_eq!(report.last, anchor_of(&path));
}

#[tokio::test]
async fn an_edited_record_is_found() {
    let (_folder, path) = ten_records().await;
    tamper(&path, |lines| {
        lines[4] = lines[4].replace("issued", "denied")
    });
    let error = verify_one(&path).unwrap_err();
    assert!(
        matches!(error, VerifyError::Changed { line: 5, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_record_with_a_hash_of_its_own_is_found() {
    let (_folder, path) = ten_records().await;
    tamper(&path, |lines| {
        let prev = chain::read(lines[3].as_bytes()).unwrap().place;
        let mut line = Vec::new();
        chain::append(&mut line, prev, SystemTime::now(), &event(99)).unwrap();
        lines[4] = String::from_utf8(line).unwrap().trim_end().to_owned();
    });
    let error = verify_one(&path).unwrap_err();
    assert!(
        matches!(error, VerifyError::OutOfOrder { line: 6, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_deleted_record_is_found() {
    let (_folder, path) = ten_records().await;
    tamper(&path, |lines| drop(lines.remove(4)));
    let error = verify_one(&path).unwrap_err();
    assert!(
        matches!(
            error,
            VerifyError::OutOfOrder {
                line: 5,
                found: 6,
                before: 4,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn reordered_and_repeated_records_are_found() {
    let (_folder, path) = ten_records().await;
    let original = fs::read(&path).unwrap();
    tamper(&path, |lines| lines.swap(4, 5));
    let error = verify_one(&path).unwrap_err();
    assert!(
        matches!(error, VerifyError::OutOfOrder { line: 5, .. }),
        "{error}"
    );
    fs::write(&path, original).unwrap();
    tamper(&path, |lines| lines.insert(4, lines[4].clone()));
    let error = verify_one(&path).unwrap_err();
    assert!(
        matches!(error, VerifyError::OutOfOrder { line: 6, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_cut_end_is_found_by_the_anchor() {
    let (_folder, path) = ten_records().await;
    let anchor = anchor_of(&path);
    tamper(&path, |lines| lines.truncate(6));
    let without = verify(std::slice::from_ref(&path), None).unwrap();
    assert_eq!(without.last.seq, 6, "the chain alone cannot know");
    let error = verify(std::slice::from_ref(&path), Some(anchor)).unwrap_err();
    assert!(
        matches!(
            error,
            VerifyError::CutOff {
                anchor: 10,
                last: 6
            }
        ),
        "{error}"
    );
    let error = AuditLog::open(path, Fsync::Never).unwrap_err();
    assert!(
        matches!(error, OpenError::Changed { .. }),
        "nor is it written on: {error}"
    );
}

#[tokio::test]
async fn a_record_that_is_cut_in_the_middle_is_found() {
    let (_folder, path) = ten_records().await;
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() - 1]).unwrap();
    let error = verify_one(&path).unwrap_err();
    assert!(
        matches!(error, VerifyError::Changed { line: 10, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_that_was_written_anew_is_found_by_the_anchor() {
    let (_folder, path) = ten_records().await;
    let anchor = anchor_of(&path);
    fs::remove_file(&path).unwrap();
    fs::remove_file(format!("{}.anchor", path.display())).unwrap();
    write(&path, 100..108).await;
    let error = verify(std::slice::from_ref(&path), Some(anchor)).unwrap_err();
    assert!(matches!(error, VerifyError::Rewritten(10)), "{error}");
}

#[tokio::test]
async fn an_unfinished_record_of_a_crash_is_removed_and_said() {
    let (_folder, path) = ten_records().await;
    let mut text = fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"seq\":11,\"time\":17");
    fs::write(&path, text).unwrap();
    write(&path, 8..9).await;
    assert_eq!(verify_one(&path).unwrap().records, 13);
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.lines()
            .nth(10)
            .unwrap()
            .contains("\"removed_bytes\":19")
    );
}

#[tokio::test]
async fn the_chain_goes_on_over_rotation_and_restart() {
    let (folder, path) = ten_records().await;
    let first = folder.path().join("audit.jsonl.2");
    let second = folder.path().join("audit.jsonl.1");
    // Rotated while the proxy is down.
    fs::rename(&path, &first).unwrap();
    let log = AuditLog::open(path.clone(), Fsync::Always).unwrap();
    // Rotated under a running proxy.
    fs::rename(&path, &second).unwrap();
    log.permit().unwrap().write(event(8));
    log.close(DEADLINE).await.unwrap();
    let report = verify(
        &[first.clone(), second.clone(), path.clone()],
        Some(anchor_of(&path)),
    );
    let report = report.unwrap();
    assert_eq!((report.records, report.first, report.last.seq), (13, 1, 13));
    let later = verify(&[second.clone(), path.clone()], Some(anchor_of(&path))).unwrap();
    assert_eq!((later.records, later.first), (3, 11));
    let error = verify(&[first.clone(), path.clone()], None).unwrap_err();
    assert!(
        matches!(
            error,
            VerifyError::OutOfOrder {
                found: 12,
                before: 10,
                ..
            }
        ),
        "{error}"
    );
    let old = Anchor {
        seq: 5,
        hash: anchor_of(&path).hash,
    };
    let error = verify(&[second, path], Some(old)).unwrap_err();
    assert!(
        matches!(
            error,
            VerifyError::NotGiven {
                anchor: 5,
                first: 11
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_second_writer_is_refused() {
    let (_folder, path) = ten_records().await;
    let _log = AuditLog::open(path.clone(), Fsync::Never).unwrap();
    assert!(matches!(
        AuditLog::open(path, Fsync::Never),
        Err(OpenError::InUse(_))
    ));
}

#[tokio::test]
async fn without_a_writer_there_is_no_permit() {
    let (_folder, path) = ten_records().await;
    let log = AuditLog::open(path.clone(), Fsync::Never).unwrap();
    let permit = log.permit().unwrap();
    log.close(DEADLINE).await.unwrap();
    assert!(log.permit().is_err());
    permit.write(event(1));
}

/// What may pass is waited for, and nothing of what was served is lost.
#[tokio::test]
async fn while_the_file_cannot_be_written_there_is_no_permit() {
    let (folder, path) = ten_records().await;
    let log = AuditLog::open(path.clone(), Fsync::Never).unwrap();
    let (served, in_flight) = (log.permit().unwrap(), log.permit().unwrap());
    let away = folder.path().join("away");
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    served.write(event(1));
    until(|| log.permit().is_err()).await;
    in_flight.write(event(2));
    log.note(event(3));
    fs::remove_dir(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    until(|| log.permit().is_ok()).await;
    log.permit().unwrap().write(event(4));
    log.close(DEADLINE).await.unwrap();
    // Ten, opened, three events and the interruption, one more, closed.
    assert_eq!(verify_one(&path).unwrap().records, 17);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches("\"kind\":\"interrupted\"").count(), 1);
}

/// A proxy that ends is not kept by a disk that stays full.
#[tokio::test]
async fn a_log_that_cannot_be_written_still_ends() {
    let (folder, path) = ten_records().await;
    let log = AuditLog::open(path.clone(), Fsync::Never).unwrap();
    let permit = log.permit().unwrap();
    fs::rename(&path, folder.path().join("away")).unwrap();
    fs::create_dir(&path).unwrap();
    permit.write(event(1));
    until(|| log.permit().is_err()).await;
    log.close(DEADLINE).await.unwrap_err();
    let away = folder.path().join("away");
    AuditLog::open(away, Fsync::Never).expect("its file is free");
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap();
}

#[tokio::test]
async fn a_full_queue_gives_no_permit() {
    let (_folder, path) = ten_records().await;
    let log = AuditLog::open(path, Fsync::Never).unwrap();
    let permits: Vec<_> = std::iter::from_fn(|| log.permit().ok())
        .take(QUEUE_RECORDS + 1)
        .collect();
    assert_eq!(permits.len(), QUEUE_RECORDS);
    drop(permits);
    assert!(log.permit().is_ok());
}

#[tokio::test]
async fn records_are_synced_in_time() {
    let (_folder, path) = ten_records().await;
    let log = AuditLog::open(path.clone(), Fsync::Interval(Duration::from_millis(5))).unwrap();
    log.permit().unwrap().write(event(1));
    until(|| anchor_of(&path).seq >= 12).await;
}

#[test]
fn what_is_not_an_anchor_is_refused() {
    let anchor = Anchor {
        seq: 7,
        hash: Hash::NOTHING,
    };
    assert_eq!(anchor.to_string().parse::<Anchor>().unwrap(), anchor);
    let digits = "0".repeat(64);
    for bad in [
        "",
        "7",
        ":",
        &digits,
        "7:00",
        &format!("x:{digits}"),
        &format!("7:{}G", &digits[1..]),
    ] {
        bad.parse::<Anchor>().unwrap_err();
    }
}
