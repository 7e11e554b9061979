//! The `command` agent.

use std::process::ExitCode;

use crate::harness::{Group, eventually};
use crate::noise;

crate::tests![
    the_answer_is_what_the_program_prints,
    each_follow_up_is_a_new_run_of_the_program,
    a_non_zero_exit_is_an_error_with_the_last_lines,
    a_program_that_does_not_exist_is_named,
    a_missing_program_is_a_failure,
    a_program_that_does_not_read_its_input_still_answers,
    a_stopped_run_stops_the_program,
    a_program_that_has_ended_before_the_stop_has_answered,
    the_agent_reads_neither_the_runners_memory_nor_its_output,
];

fn sh(script: &str) -> [&str; 3] {
    ["sh", "-c", script]
}

fn the_answer_is_what_the_program_prints() {
    let group = Group::new();
    let document = group.document("hello", "command", &sh("cat; echo; echo done; echo no >&2"));
    let (record, exit) = group.run_once(&document);
    assert_eq!((record.result.as_deref(), exit), (Some("hello\ndone"), 0));
}

fn each_follow_up_is_a_new_run_of_the_program() {
    let group = Group::new();
    let run = group.run(&group.document("one", "command", &sh("cat; echo; echo x >> runs")));
    assert_eq!(run.answer(), "one");
    group.message("two");
    assert_eq!(run.answer(), "two");
    group.close();
    assert_eq!(run.exit().0, 0);
    let runs = std::fs::read_to_string(group.path("workspace/runs")).unwrap();
    assert_eq!(runs.lines().count(), 2);
    assert_eq!(group.input_files(".taken"), [""; 0]);
}

fn a_non_zero_exit_is_an_error_with_the_last_lines() {
    let group = Group::new();
    let script = "i=0; while [ $i -lt 5000 ]; do echo line $i >&2; i=$((i+1)); done; exit 3";
    let (record, exit) = group.run_once(&group.document("x", "command", &sh(script)));
    let error = record.error.unwrap();
    assert!(error.starts_with("sh ended with exit code 3: "), "{error}");
    assert!(error.ends_with("line 4999"), "{error}");
    assert!(error.len() < 5000, "{} bytes", error.len());
    assert_eq!(exit, 1);
}

fn a_program_that_does_not_exist_is_named() {
    let group = Group::new();
    let (record, exit) = group.run_once(&group.document("x", "command", &["/no/such/program"]));
    let error = record.error.unwrap();
    assert!(error.contains("/no/such/program"), "{error}");
    assert_eq!(exit, 1);
}

fn a_missing_program_is_a_failure() {
    let group = Group::new();
    let run = group.run(&group.document("x", "command", &[]));
    assert!(run.error().contains("agent.command"));
    assert_eq!(run.exit().0, 1);
}

fn a_program_that_does_not_read_its_input_still_answers() {
    let group = Group::new();
    let prompt = "x".repeat(1_000_000);
    let (record, _) = group.run_once(&group.document(&prompt, "command", &["echo", "hi"]));
    assert_eq!(record.result.as_deref(), Some("hi"));
}

fn a_stopped_run_stops_the_program() {
    let group = Group::new();
    let script = "trap '' TERM; echo $$ > pid; sleep 300";
    let run = group.run(&group.document("x", "command", &sh(script)));
    let pid_file = group.path("workspace/pid");
    eventually("the program's start", || {
        std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n'))
    });
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    run.terminate();
    assert!(run.error().contains("stopped"));
    assert_eq!(run.exit().0, 130);
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists());
}

/// What it left behind holds its output open, so its answer is still being read
/// when the stop comes.
fn a_program_that_has_ended_before_the_stop_has_answered() {
    for stops in [true, false] {
        let group = Group::new();
        group.message("waits");
        let script = "cat > text; sleep 300 & echo $$ > pid; echo done";
        let run = group.run(&group.document("x", "command", &sh(script)));
        let pid_file = group.path("workspace/pid");
        eventually("the program's end", || {
            let pid = std::fs::read_to_string(&pid_file).unwrap_or_default();
            let process = std::path::Path::new("/proc").join(pid.trim());
            pid.ends_with('\n') && !process.exists()
        });
        if stops {
            run.terminate();
        } else {
            group.input_file("1.json", &serde_json::json!({"type": "interrupt"}));
        }
        assert_eq!(run.answer(), "done");
        if stops {
            assert!(run.error().contains("stopped"));
        } else {
            group.close();
        }
        assert_eq!(run.exit().0, if stops { 130 } else { 0 });
        assert_eq!(group.input_files(".taken"), [""; 0], "it was confirmed");
    }
}

/// A forged record needs the runner's standard output.
fn the_agent_reads_neither_the_runners_memory_nor_its_output() {
    let group = Group::new();
    let script = "for pid in $PPID $(cut -d' ' -f4 /proc/$PPID/stat); do
        for file in fd/1 environ mem; do
            head -c 1 /proc/$pid/$file > /dev/null 2>&1 && echo open /proc/$pid/$file
            [ $file = fd/1 ] && sh -c \"echo forged > /proc/$pid/fd/1\" 2> /dev/null
        done
    done; echo tried";
    let script = as_ordinary_user(script);
    let (record, _) = group.run_once(&group.document("x", "command", &sh(&script)));
    assert_eq!(record.result.as_deref(), Some("tried"));
}

/// Root may read everything, so the script gives that up first.
fn as_ordinary_user(script: &str) -> String {
    if rustix::process::geteuid().is_root() {
        let script = script.replace('\'', "'\\''");
        format!("exec setpriv --bounding-set=-all --inh-caps=-all sh -c '{script}'")
    } else {
        script.to_owned()
    }
}

/// A program that makes noise before it answers.
pub(crate) fn fake_agent(scenario: &str) -> ExitCode {
    let prompt = std::io::read_to_string(std::io::stdin()).unwrap();
    if let Some(kind) = scenario.strip_prefix("noise-") {
        noise::make(kind);
    }
    println!("Reply to: {prompt}");
    ExitCode::SUCCESS
}
