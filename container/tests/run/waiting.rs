//! Callers of `drawbridge submit --wait` whose `serve` ends first.

use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;

use crate::callers::{DEADLINE, Killed, lines};
use crate::{Bench, Ended};

const GOES_ON: &str = "the next `drawbridge serve` goes on with it";
const LOOK: &str = "hint: look at what it did, then `drawbridge dead-letter retry 1`";

/// A program, and what it writes to standard error.
pub(crate) struct Started {
    pub(crate) child: Killed,
    pub(crate) err: Receiver<String>,
}

impl Started {
    pub(crate) fn new(mut command: Command) -> Self {
        let mut child = Killed(command.spawn().unwrap());
        let err = lines(child.0.stderr.take().unwrap());
        Self { child, err }
    }

    pub(crate) fn wait_for_err(&self, expected: &str) {
        let next = || self.err.recv_timeout(DEADLINE);
        while !next().unwrap().contains(expected) {}
    }

    /// Sends it a signal, and waits until it has ended.
    pub(crate) fn stop(self, signal: &str) -> Ended {
        let pid = self.child.0.id().to_string();
        let sent = Command::new("/bin/kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
        self.end()
    }

    /// How it ends, with what it has written since the last look.
    fn end(mut self) -> Ended {
        let code = self.child.0.wait().unwrap().code().unwrap_or(137);
        let err: Vec<String> = self.err.iter().collect();
        Ended {
            code,
            out: String::new(),
            err: err.join("\n"),
        }
    }
}

fn serve(bench: &Bench) -> Started {
    let mut command = bench.command(&["serve", "--runtime", "docker", "--drain", "10ms"]);
    command.stdout(Stdio::null());
    let serve = Started::new(command);
    serve.wait_for_err("serving on ");
    serve
}

/// Sends a signal to a `serve` that has answered one caller, whose agent goes
/// on, and has another one's submission in its queue. Returns what both hear.
fn interrupt(bench: &Bench, signal: &str) -> (Ended, Ended) {
    let serve = serve(bench);
    let submit = |prompt| {
        let wait = ["submit", "--wait", "--stay-open", "--group", "g"];
        let mut command = bench.command(&[&wait[..], &["--prompt", prompt]].concat());
        command.env("DRAWBRIDGE_LOG", "debug");
        Started::new(command)
    };
    let mut begun = submit("one");
    let answer = lines(begun.child.0.stdout.take().unwrap()).recv_timeout(DEADLINE);
    assert_eq!(answer.unwrap(), "so far");
    let queued = submit("two");
    queued.wait_for_err("event ");
    serve.stop(signal);
    (begun.end(), queued.end())
}

/// Waits until a submission has an event of this type.
pub(crate) fn wait_for_event(bench: &Bench, id: &str, kind: &str) {
    let mut reader = bench.command(&["events", "--follow", "--submission", id]);
    let mut reader = Killed(reader.spawn().unwrap());
    let events = lines(reader.0.stdout.take().unwrap());
    let kind = format!("\"type\":\"{kind}\"");
    while !events.recv_timeout(DEADLINE).unwrap().contains(&kind) {}
}

fn assert_letter_says_where_to_look(bench: &Bench) {
    let show = bench.command(&["dead-letter", "show", "1"]).spawn();
    let shown = bench.end(show.unwrap());
    assert!(shown.out.contains(LOOK), "{shown:?}");
}

#[test]
fn who_waits_is_told_that_the_run_was_cut_short() {
    let bench = Bench::new("answer and linger");
    let (begun, queued) = interrupt(&bench, "-TERM");
    begun.assert_error(130, "error: interrupted");
    begun.assert_error(130, "`drawbridge dead-letter show 1`");
    queued.assert_error(4, GOES_ON);
    assert_letter_says_where_to_look(&bench);
    bench.assert_nothing_is_left();
}

#[test]
fn who_waits_for_a_killed_serve_is_told_what_is_not_repeated() {
    let bench = Bench::new("answer and linger");
    let (begun, queued) = interrupt(&bench, "-KILL");
    begun.assert_error(4, "serve ended before submission 1");
    let look = "`drawbridge dead-letter show 1`, then `drawbridge dead-letter retry 1`";
    for expected in ["does not repeat it", look] {
        begun.assert_error(4, expected);
    }
    assert!(!begun.err.contains(GOES_ON), "{begun:?}");
    queued.assert_error(4, GOES_ON);

    // It comes as they were told: one is a dead letter, the other one goes on.
    bench.script("answer");
    let serve = serve(&bench);
    wait_for_event(&bench, "1", "dead");
    wait_for_event(&bench, "2", "result");
    assert_letter_says_where_to_look(&bench);
    serve.stop("-TERM");
    bench.assert_nothing_is_left();
}
