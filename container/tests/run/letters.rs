//! What is told of a submission that fails, and of one that failed before.

use std::process::Stdio;

use crate::waiting::{Started, wait_for_event};
use crate::{Bench, Ended};

fn serve(bench: &Bench) -> Started {
    let start = ["serve", "--runtime", "docker", "--retry-delay", "10ms"];
    let mut command = bench.command(&[&start[..], &["--max-attempts", "2"]].concat());
    command.stdout(Stdio::null());
    let serve = Started::new(command);
    serve.wait_for_err("serving on ");
    serve
}

fn told(bench: &Bench, args: &[&str]) -> Ended {
    bench.end(bench.command(args).spawn().unwrap())
}

/// One line for each failure, and nothing in it that the agent or a message says.
#[test]
fn a_failure_is_a_line_in_the_log_without_a_word_of_the_agents() {
    let limited = "agent-failed, exit code 1: the agent reported an error of kind \"rate-limit\"";
    let broken = "never-started, exit code 1: the runner ended with exit code 3";
    let (again, dead) = ("is tried again", "is a dead letter");
    for (script, ends, reason) in [
        ("agent quotes", &[dead][..], limited),
        ("crash", &[again, dead], broken),
    ] {
        let bench = Bench::new(script);
        let serve = serve(&bench);
        let submit = ["submit", "--wait", "--group", "g", "--prompt", "CANARY"];
        assert_eq!(told(&bench, &submit).code, 1);
        let Ended { err, .. } = serve.stop("-TERM");
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
fn a_list_does_not_tell_an_old_error_of_what_went_well() {
    let bench = Bench::new("agent fails");
    let _serve = serve(&bench);
    let submit = ["submit", "--wait", "--prompt", "hi"];
    assert_eq!(told(&bench, &submit).code, 1);
    let listed = told(&bench, &["list"]).out;
    assert!(listed.contains("attempt 1  no"), "{listed}");
    bench.script("answer");
    assert_eq!(told(&bench, &["dead-letter", "retry", "1"]).code, 0);
    wait_for_event(&bench, "1", "done");
    let listed = told(&bench, &["list"]).out;
    assert!(listed.contains("done"), "{listed}");
    assert!(listed.ends_with("attempt 2\n"), "{listed}");
    let listed = told(&bench, &["list", "--json"]).out;
    assert!(!listed.contains("reason"), "{listed}");
}
