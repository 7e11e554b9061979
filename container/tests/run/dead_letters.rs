//! Reports of a submission that fails, and of one that failed before.

use drawbridge_testkit::{Ended, Program};
use rustix::process::Signal;

use crate::TestMachine;
use crate::waiting::{start_serve, stop, wait_for_event};

fn serve(machine: &TestMachine) -> Program {
    let args = [
        "--runtime",
        "docker",
        "--retry-delay",
        "10ms",
        "--max-attempts",
        "2",
    ];
    start_serve(machine, &args)
}

/// One line for each failure, and nothing in it that the agent or a message says.
#[test]
fn a_failure_is_logged_in_one_line_without_output_of_the_agent() {
    let limited = "agent-failed, exit code 1: the agent reported an error of kind \"rate-limit\"";
    let broken = "never-started, exit code 1: the runner ended with exit code 3";
    let (again, dead) = ("is tried again", "is a dead letter");
    for (script, ends, reason) in [
        ("agent quotes", &[dead][..], limited),
        ("crash", &[again, dead], broken),
    ] {
        let machine = TestMachine::new(script);
        let serve = serve(&machine);
        let submit = ["submit", "--wait", "--group", "g", "--prompt", "CANARY"];
        assert_eq!(machine.call(&submit).code, 1);
        let Ended { err, .. } = stop(serve, Signal::TERM);
        let lines: Vec<_> = err.lines().filter(|line| line.contains("WARN")).collect();
        assert_eq!(lines.len(), ends.len(), "{err}");
        for (n, (line, end)) in lines.iter().zip(ends).enumerate() {
            let attempt = n + 1;
            let expected =
                format!("submission 1 of group g {end} after attempt {attempt}: {reason}");
            assert!(line.ends_with(&expected), "{line}");
        }
        // What the agent said, and what stands in its log.
        for word in ["CANARY", "it broke"] {
            assert!(!err.contains(word), "{err}");
        }
    }
}

#[test]
fn a_list_shows_no_old_error_of_a_submission_that_succeeded() {
    let machine = TestMachine::new("agent fails");
    let _serve = serve(&machine);
    let submit = ["submit", "--wait", "--prompt", "hi"];
    assert_eq!(machine.call(&submit).code, 1);
    let listed = machine.call(&["list"]).out;
    assert!(listed.contains("attempt 1  no"), "{listed}");
    machine.script("answer");
    assert_eq!(machine.call(&["dead-letter", "retry", "1"]).code, 0);
    wait_for_event(&machine, "1", "done");
    let listed = machine.call(&["list"]).out;
    assert!(listed.contains("done"), "{listed}");
    assert!(listed.ends_with("attempt 2\n"), "{listed}");
    let listed = machine.call(&["list", "--json"]).out;
    assert!(!listed.contains("reason"), "{listed}");
}
