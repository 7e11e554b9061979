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
