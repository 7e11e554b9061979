use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::*;

fn folder() -> (tempfile::TempDir, Folder) {
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("ipc");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(outer.path().join("secret"), "secret").unwrap();
    let folder = Folder::open(&path).unwrap();
    (outer, folder)
}

#[track_caller]
fn refused(folder: &Folder, name: &str, expected: &str) {
    let reason = folder.read(name.as_ref(), 100).unwrap_err();
    assert!(reason.contains(expected), "{name}: {reason}");
}

#[test]
fn only_regular_files_of_bounded_size_are_read() {
    let (outer, folder) = folder();
    let ipc = outer.path().join("ipc");
    std::fs::write(ipc.join("good"), "good").unwrap();
    assert_eq!(folder.read("good".as_ref(), 4).unwrap(), b"good");
    assert!(folder.read("good".as_ref(), 3).is_err());

    symlink("../secret", ipc.join("link")).unwrap();
    symlink("good", ipc.join("link-inside")).unwrap();
    symlink("/dev/zero", ipc.join("device")).unwrap();
    for link in ["link", "link-inside", "device"] {
        refused(&folder, link, "symlink");
    }
    std::fs::create_dir(ipc.join("folder")).unwrap();
    refused(&folder, "folder", "not a regular file");
    let pipe = ipc.join("pipe");
    fs::mknodat(fs::CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    refused(&folder, "pipe", "not a regular file");
    let _socket = UnixListener::bind(ipc.join("socket")).unwrap();
    refused(&folder, "socket", "not a regular file");
    // A sparse file of a terabyte takes no room until somebody reads it.
    let huge = File::create(ipc.join("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    refused(&folder, "huge", "larger than 100 bytes");
    refused(&folder, "none", "no such file");
}

#[test]
fn a_path_stays_below_the_folder() {
    let (outer, folder) = folder();
    let ipc = outer.path().join("ipc");
    std::fs::create_dir_all(ipc.join("a/b")).unwrap();
    std::fs::write(ipc.join("a/b/c"), "x").unwrap();
    symlink("..", ipc.join("a/up")).unwrap();
    symlink("b", ipc.join("a/again")).unwrap();
    folder.file(Path::new("./a/b/c")).unwrap();
    for bad in [
        "a/b/../b/c",
        "../secret",
        "a/up/secret",
        "a/again/c",
        "/etc/passwd",
        "",
        ".",
        "a/b",
    ] {
        folder.file(Path::new(bad)).unwrap_err();
    }
}

#[test]
fn nothing_is_written_through_a_symlink() {
    let (outer, folder) = folder();
    let ipc = outer.path().join("ipc");
    // A folder of the protocol that became a way out is replaced by a folder.
    symlink("..", ipc.join("answers")).unwrap();
    let answers = folder.folder("answers", None).unwrap();
    answers.write("secret", b"answer", None).unwrap();
    let read = |name: &str| std::fs::read_to_string(outer.path().join(name)).unwrap();
    assert_eq!(read("secret"), "secret");
    assert_eq!(read("ipc/answers/secret"), "answer");
    // So is a file.
    symlink("../secret", ipc.join("tasks.json")).unwrap();
    folder.write("tasks.json", b"[]", None).unwrap();
    assert_eq!(read("secret"), "secret");
    assert_eq!(read("ipc/tasks.json"), "[]");
    let mode = std::fs::metadata(ipc.join("tasks.json")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    // The folder that was opened stays the one that is used.
    std::fs::rename(ipc.join("answers"), ipc.join("moved")).unwrap();
    symlink("..", ipc.join("answers")).unwrap();
    answers.write("late", b"answer", None).unwrap();
    assert!(!outer.path().join("late").exists());
    assert_eq!(read("ipc/moved/late"), "answer");
}

#[test]
fn names_are_bounded_and_sorted() {
    let (outer, folder) = folder();
    for number in 0..20 {
        std::fs::write(outer.path().join(format!("ipc/{number:02}")), "").unwrap();
    }
    assert_eq!(folder.names(5).unwrap().len(), 5);
    let names = folder.names(100).unwrap();
    assert_eq!(names.len(), 20);
    assert!(names.is_sorted());
}
