//! Clients of `drawbridge submit --wait` whose `serve` ends first.

use drawbridge_testkit::{Dialogue, Ended, Program};
use rustix::process::Signal;

use crate::TestMachine;

const GOES_ON: &str = "the next `drawbridge serve` goes on with it";
const LOOK: &str = "hint: look at what it did, then `drawbridge dead-letter retry 1`";

fn serve(machine: &TestMachine) -> Program {
    start_serve(machine, &["--runtime", "docker", "--drain", "10ms"])
}

/// Starts `drawbridge serve` and waits until it takes clients.
pub(crate) fn start_serve(machine: &TestMachine, args: &[&str]) -> Program {
    let serve = Program::start(&mut machine.command(&[&["serve"], args].concat()));
    wait_for_err(&serve, "serving on ");
    serve
}

fn wait_for_err(program: &Program, text: &str) {
    program.wait_for_err(text, |err| err.contains(text).then_some(()));
}

/// Sends it a signal and waits for its end.
pub(crate) fn stop(mut program: Program, signal: Signal) -> Ended {
    program.signal(signal);
    program.wait()
}

/// Sends a signal to a `serve` that has answered one client, whose agent goes
/// on, and has another one's submission in its queue. Returns how both clients
/// end.
fn interrupt(machine: &TestMachine, signal: Signal) -> (Ended, Ended) {
    let serve = serve(machine);
    let submit = |prompt| {
        let wait = ["submit", "--wait", "--stay-open", "--group", "g"];
        let mut command = machine.command(&[&wait[..], &["--prompt", prompt]].concat());
        Program::start(command.env("DRAWBRIDGE_LOG", "debug"))
    };
    let mut begun = submit("one");
    begun.wait_for_out("an answer", |out| (out == "so far\n").then_some(()));
    let mut queued = submit("two");
    wait_for_err(&queued, "event ");
    stop(serve, signal);
    (begun.wait(), queued.wait())
}

/// Waits until a submission has an event of this type.
pub(crate) fn wait_for_event(machine: &TestMachine, id: &str, kind: &str) {
    let follow = ["events", "--follow", "--submission", id];
    let mut events = Dialogue::start(&mut machine.command(&follow));
    events.find(|entry| entry["event"]["type"] == kind);
}

fn assert_letter_says_where_to_look(machine: &TestMachine) {
    let shown = machine.call(&["dead-letter", "show", "1"]);
    assert!(shown.out.contains(LOOK), "{shown:?}");
}

#[test]
fn client_learns_that_the_run_was_interrupted() {
    let machine = TestMachine::new("answer and linger");
    let (begun, queued) = interrupt(&machine, Signal::TERM);
    begun.assert_error(130, "error: interrupted");
    begun.assert_error(130, "`drawbridge dead-letter show 1`");
    queued.assert_error(4, GOES_ON);
    assert_letter_says_where_to_look(&machine);
    machine.assert_nothing_is_left();
}

#[test]
fn client_of_a_killed_serve_learns_what_is_not_repeated() {
    let machine = TestMachine::new("answer and linger");
    let (begun, queued) = interrupt(&machine, Signal::KILL);
    begun.assert_error(4, "serve ended before submission 1");
    let look = "`drawbridge dead-letter show 1`, then `drawbridge dead-letter retry 1`";
    for expected in ["does not repeat it", look] {
        begun.assert_error(4, expected);
    }
    assert!(!begun.err.contains(GOES_ON), "{begun:?}");
    queued.assert_error(4, GOES_ON);

    // It comes as they were told: one is a dead letter, the other one goes on.
    machine.script("answer");
    let serve = serve(&machine);
    wait_for_event(&machine, "1", "dead");
    wait_for_event(&machine, "2", "result");
    assert_letter_says_where_to_look(&machine);
    stop(serve, Signal::TERM);
    machine.assert_nothing_is_left();
}
