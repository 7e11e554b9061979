use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::time::{advance, pause, resume};

use super::*;

/// A program in the place of the runner's own that only knows `tied`.
fn without_death_signal() -> SelfCommand {
    let script = "while [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\"";
    SelfCommand {
        program: "/bin/sh".into(),
        arguments: ["-c", script, "sh"].map(Into::into).to_vec(),
    }
}

/// As when the host leaves a record unread for a while.
#[tokio::test]
async fn a_reader_without_time_loses_nothing_of_an_ended_child() {
    const LINES: usize = 10_000;
    let spec = ChildSpec {
        program: "seq".into(),
        args: vec![LINES.to_string().into()],
        cwd: "/".into(),
        env: Vec::new(),
        removed_env: Vec::new(),
    };
    let mut child = LineChild::spawn(&without_death_signal(), &spec).unwrap();
    let id = WaitId::Pid(child.group.unwrap());
    waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let mut count = 0;
    while child.ended.is_none() {
        let event = child.next().await;
        assert!(matches!(event, ChildEvent::Line(_)), "{event:?}");
        count += 1;
    }
    pause();
    advance(PIPE_GRACE * 2).await;
    resume();
    while let ChildEvent::Line(_) = child.next().await {
        count += 1;
    }
    assert_eq!(count, LINES);
}
