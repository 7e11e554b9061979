//! The harness must be able to fail, or the tests that use it prove nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drawbridge_testkit::{Canary, FAKE_KEY, Program, Upstream};

#[test]
fn the_canary_is_found_in_every_form_and_at_every_alignment() {
    let canary = Canary::new(FAKE_KEY);
    for before in ["", "a", "ab", "abc"] {
        let text = format!("{before}{FAKE_KEY} and more");
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        let percent: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for form in [text.clone(), STANDARD.encode(&text), hex, percent] {
            assert!(canary.find(form.as_bytes()).is_some(), "{form}");
        }
    }
    assert_eq!(canary.find(b"sk-ant-fake-CANARY-0123456780"), None);
}

#[test]
fn the_canary_is_found_below_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("deep")).unwrap();
    std::fs::write(folder.path().join("deep/.hidden"), FAKE_KEY).unwrap();
    let search = || Canary::new(FAKE_KEY).assert_absent_below(folder.path());
    std::panic::catch_unwind(search).unwrap_err();
}

#[test]
fn a_reset_of_the_upstream_reaches_the_client_as_a_reset() {
    let upstream = Upstream::start(|_, exchange| exchange.reset());
    let address = upstream.url().replace("http://", "");
    let mut client = TcpStream::connect(address).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_dropped_program_is_killed_with_its_children() {
    let program = Program::start(Command::new("sh").args(["-c", "sleep 1000 & echo $!; wait"]));
    let child = program.wait_for_out("its child", |out| out.trim().parse::<u32>().ok());
    drop(program);
    drawbridge_testkit::eventually("the child's end", || {
        (!std::path::Path::new(&format!("/proc/{child}/cwd")).is_symlink()).then_some(())
    });
}
