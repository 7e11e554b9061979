//! What the doctor leaves behind on the machine that it looks at: nothing.

use std::fs;
use std::net::TcpListener;

use drawbridge_testkit::Ended;

use super::TestMachine;

/// An address of this machine for the doctor's second container, and the port on
/// which that listens.
#[cfg(target_os = "linux")]
const PEER: (&str, u16) = ("127.47.11.1", 4711);

impl TestMachine {
    fn ask(&self, command: &str) -> Ended {
        self.call(&[command])
    }

    /// Asks the doctor, who finds a second container or not.
    #[track_caller]
    fn assert_the_doctor_leaves_nothing(&self, finding: &str) {
        let ended = self.ask("doctor");
        ended.assert_error(3, "");
        assert!(ended.out.contains(finding), "{ended:?}");
        assert!(self.read("bin/calls").contains("--name drawbridge-peer-"));
        self.assert_nothing_is_left();
        self.ask("clean").assert_error(0, "removed 0 dead runs");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_doctors_second_container_leaves_no_folder() {
    let _peer = TcpListener::bind(PEER).unwrap();
    let machine = TestMachine::new("answer");
    fs::write(machine.path("bin/peer"), PEER.0).unwrap();
    // The fake engine is no probe; by then the second container has been found.
    machine.assert_the_doctor_leaves_nothing("the probe gave no report");
}

#[test]
fn a_second_container_that_does_not_start_leaves_no_folder() {
    let machine = TestMachine::new("answer");
    machine.assert_the_doctor_leaves_nothing("has no address");
}
