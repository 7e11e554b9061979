use super::*;
use crate::agent::builtin::tests::{DEADLINE, spec, stand_in};

fn call(command: &str) -> Call {
    Call {
        command: command.to_owned(),
        timeout: DEADLINE,
    }
}

fn tool_call(input: Option<Value>) -> ToolCall {
    ToolCall {
        id: "a".to_owned(),
        name: NAME.to_owned(),
        input,
    }
}

/// A shell in a folder of its own.
fn shell() -> (Shell, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    (Shell::new(&spec(home.path(), "http://127.0.0.1:1")), home)
}

#[tokio::test]
async fn both_outputs_arrive_in_their_order() {
    let (shell, _home) = shell();
    let output = shell.run(&call("echo a; echo b >&2; echo c")).await;
    assert_eq!(output.text, "a\nb\nc\n");
    assert!(!output.is_error);
}

#[tokio::test]
async fn the_time_limit_kills_the_whole_group_and_keeps_the_output() {
    let (shell, home) = shell();
    let mut call = call("echo early; sleep 1000 & echo $! > child; wait");
    call.timeout = Duration::from_millis(300);
    let output = timeout(DEADLINE, shell.run(&call)).await.unwrap();
    assert!(output.is_error);
    assert_eq!(output.text, "early\n[killed at its time limit of 300ms]");
    let child = std::fs::read_to_string(home.path().join("child")).unwrap();
    stand_in::wait_for_end(child.trim()).await;
}

#[tokio::test]
async fn what_stays_in_the_background_does_not_hold_the_turn() {
    let (shell, home) = shell();
    let call = call("sleep 1000 & echo $! > child; echo started");
    let output = timeout(DEADLINE, shell.run(&call)).await.unwrap();
    assert_eq!(output.text, "started\n");
    let child = std::fs::read_to_string(home.path().join("child")).unwrap();
    let child = Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(child, Signal::KILL).expect("it still runs");
}

#[tokio::test]
async fn a_flood_is_shortened_and_ends_the_reader_in_time() {
    let (shell, _home) = shell();
    let flood = call("head -c 50000000 /dev/zero; echo end");
    let output = timeout(DEADLINE, shell.run(&flood)).await.unwrap();
    assert!(output.text.ends_with("end\n"));
    assert!(output.text.len() < 200_000);
}

#[test]
fn wrong_input_is_explained_to_the_model() {
    let parse = |input| Call::parse(&tool_call(input)).unwrap_err();
    insta::assert_snapshot!(parse(None), @"The input did not arrive whole; make it shorter.");
    insta::assert_snapshot!(parse(Some(json!({}))), @r#""command" must be a text without NUL."#);
    let input = json!({"command": "ls", "timeout_seconds": 0});
    insta::assert_snapshot!(parse(Some(input)), @r#""timeout_seconds" must be 1 to 1800."#);
    let mut call = tool_call(Some(json!({"command": "ls"})));
    assert_eq!(Call::parse(&call).unwrap().timeout, DEFAULT_TIMEOUT);
    call.name = "python".to_owned();
    insta::assert_snapshot!(Call::parse(&call).unwrap_err(), @r#"There is no tool "python", only "bash"."#);
}
