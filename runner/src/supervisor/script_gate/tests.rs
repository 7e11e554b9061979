use std::error::Error;
use std::path::PathBuf;

use super::*;

/// A stand-in for the runner's own program that only knows `tied`.
fn untied() -> SelfCommand {
    let script = "while [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\"";
    SelfCommand {
        program: "/bin/sh".into(),
        arguments: ["-c", script, "sh"].map(Into::into).to_vec(),
    }
}

async fn asked(script: &str, is_scheduled_task: bool) -> Result<Decision, ScriptError> {
    asked_within(TIME_LIMIT, script, is_scheduled_task).await
}

async fn asked_within(
    limit: Duration,
    script: &str,
    is_scheduled_task: bool,
) -> Result<Decision, ScriptError> {
    let workspace = tempfile::tempdir().unwrap();
    let paths = RunPaths {
        workspace: workspace.path().to_owned(),
        ipc: PathBuf::new(),
        home: workspace.path().to_owned(),
        global: None,
        extra: None,
        skills: None,
    };
    let input = RunInput {
        prompt: "Say it.".to_owned(),
        session_id: None,
        group_folder: "main".to_owned(),
        chat_jid: "1@g.us".to_owned(),
        is_main: true,
        is_scheduled_task,
        assistant_name: None,
        script: Some(script.to_owned()),
        drawbridge: None,
    };
    ask_within(limit, &untied(), &input, &paths).await
}

async fn failure(script: &str) -> String {
    let error = asked(script, true).await.unwrap_err();
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[tokio::test]
async fn data_and_instructions_wake_the_agent() {
    let script = r#"echo log line; pwd >&2; echo '{"wakeAgent":true,"data":{"n":[1,"ü"]}}'; echo"#;
    let Decision::Wake(prompt) = asked(script, true).await.unwrap() else {
        panic!("asleep");
    };
    insta::assert_snapshot!(prompt, @r#"
    [SCHEDULED TASK]

    Script output:
    {
      "n": [
        1,
        "ü"
      ]
    }

    Instructions:
    Say it.
    "#);
}

#[tokio::test]
async fn a_no_is_no_failure() {
    let decision = asked(r#"echo '{"wakeAgent":false}'"#, true).await.unwrap();
    assert_eq!(decision, Decision::Sleep);
}

#[tokio::test]
async fn without_schedule_or_script_nothing_runs() {
    assert_eq!(asked("exit 1", false).await.unwrap(), Decision::NoScript);
    assert_eq!(asked("", true).await.unwrap(), Decision::NoScript);
}

#[tokio::test]
async fn a_script_without_a_verdict_is_a_failure_that_says_why() {
    insta::assert_snapshot!(failure("echo gone >&2; exit 3").await,
        @"the task's script ended with exit code 3: gone");
    insta::assert_snapshot!(failure("echo; true").await,
        @r#"the task's script wrote nothing; its last line must be JSON with "wakeAgent""#);
    insta::assert_snapshot!(failure("echo yes").await,
        @r#"the last line of the task's script is not JSON with a boolean "wakeAgent": expected value at line 1 column 1"#);
    insta::assert_snapshot!(failure(r#"echo '{"wakeAgent":"yes"}'"#).await,
        @r#"the last line of the task's script is not JSON with a boolean "wakeAgent": invalid type: string "yes", expected a boolean at line 1 column 18"#);
    insta::assert_snapshot!(failure("head -c 2000000 /dev/zero").await,
        @"the task's script wrote more than 1048576 bytes");
}

#[tokio::test]
async fn a_script_that_hangs_is_stopped_at_its_limit() {
    let limit = Duration::from_millis(300);
    let hangs = asked_within(limit, "trap '' TERM; while :; do sleep 1; done", true);
    let error = timeout(TIME_LIMIT, hangs).await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the task's script was stopped after 300ms"
    );
}
