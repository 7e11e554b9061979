//! Any program: prompt on standard input, answer on standard output.
//!
//! Each message is one run of the program, one after the other. The program
//! keeps a conversation, if at all, in files of its own.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::time::Duration;

use drawbridge_io::lines::Line;
use drawbridge_shared::protocol::ErrorKind;

use super::types::{AgentCommand, AgentEvent, AgentLink, AgentSpec, Failure, Outcome};
use crate::host::message::UserMessage;
use crate::process::child::{
    ChildEvent, ChildSpec, ExitReport, LineChild, StopLadder, program_name,
};

/// Longest answer.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// The stop of an interrupted program: it has its whole input already.
const INTERRUPT: StopLadder = StopLadder {
    eof: Duration::ZERO,
    term: Duration::from_secs(3),
};

/// Drives the agent until its input is closed or it is asked to stop.
pub(super) async fn drive(spec: AgentSpec, mut link: AgentLink) -> Result<(), Failure> {
    let program = child_spec(&spec)?;
    let mut waiting = VecDeque::new();
    loop {
        if link.stop.is_cancelled() {
            return Ok(());
        }
        let Some(message) = waiting.pop_front() else {
            tokio::select! {
                () = link.stop.cancelled() => return Ok(()),
                command = link.commands.recv() => match command {
                    Some(AgentCommand::Send(message)) => waiting.push_back(message),
                    Some(AgentCommand::Interrupt | AgentCommand::Compact(_)) => {}
                    Some(AgentCommand::Close) | None => return Ok(()),
                }
            }
            continue;
        };
        link.send(AgentEvent::Busy).await;
        // The last answer is reported and its message confirmed before the next
        // program starts, so that a crash costs one turn at most.
        link.flush().await;
        let child = LineChild::spawn(&spec.self_command, &program).map_err(|error| {
            Failure::new(
                ErrorKind::StartUp,
                format!("cannot start the agent: {error}"),
            )
        })?;
        let outcome = run_once(child, &program, &message, &mut link, &mut waiting).await;
        let Some(outcome) = outcome else {
            return Ok(());
        };
        link.send(AgentEvent::TurnEnd(outcome.into())).await;
        link.send(AgentEvent::Received(message.id)).await;
        if waiting.is_empty() {
            link.send(AgentEvent::Idle).await;
        }
    }
}

fn child_spec(spec: &AgentSpec) -> Result<ChildSpec, Failure> {
    let [program, args @ ..] = &spec.options.command[..] else {
        let text = "the command agent needs a program: set `agent.command`";
        return Err(Failure::new(ErrorKind::Input, text));
    };
    Ok(ChildSpec {
        program: program.into(),
        args: args.iter().map(OsString::from).collect(),
        cwd: spec.workspace.clone(),
        env: spec.environment(),
        removed_env: spec.removed_environment(),
    })
}

/// One run of the program; `None` when the supervisor stopped it.
async fn run_once(
    mut child: LineChild,
    program: &ChildSpec,
    message: &UserMessage,
    link: &mut AgentLink,
    waiting: &mut VecDeque<UserMessage>,
) -> Option<Outcome> {
    if let Err(stalled) = child.write(message.text.clone().into_bytes()) {
        return Some(Outcome::Failed(Failure::crash(stalled.to_string())));
    }
    child.close_stdin();
    let mut answer = Vec::new();
    let mut has_commands = true;
    // A program that has ended when the end is asked for has answered.
    let mut has_ended = false;
    loop {
        tokio::select! {
            () = link.stop.cancelled(), if !has_ended => {
                has_ended = child.has_ended();
                if !has_ended {
                    child.stop(INTERRUPT).await;
                    return None;
                }
            }
            command = link.commands.recv(), if has_commands => match command {
                Some(AgentCommand::Send(message)) => waiting.push_back(message),
                Some(AgentCommand::Interrupt) => {
                    has_ended = has_ended || child.has_ended();
                    if !has_ended {
                        child.stop(INTERRUPT).await;
                        return Some(Outcome::Interrupted);
                    }
                }
                Some(AgentCommand::Close | AgentCommand::Compact(_)) => {}
                None => has_commands = false,
            },
            event = child.next() => match event {
                ChildEvent::Line(Line::Whole(line)) if answer.len() + line.len() < MAX_ANSWER_BYTES => {
                    answer.extend_from_slice(&line);
                    answer.push(b'\n');
                    link.send(AgentEvent::Activity(super::Activity::Other)).await;
                }
                ChildEvent::Line(_) => {
                    child.stop(INTERRUPT).await;
                    let text = format!("the answer is longer than {MAX_ANSWER_BYTES} bytes");
                    return Some(Outcome::Failed(Failure::crash(text)));
                }
                ChildEvent::Exited(report) => return Some(outcome(program, &report, &answer)),
            }
        }
    }
}

fn outcome(program: &ChildSpec, report: &ExitReport, answer: &[u8]) -> Outcome {
    if report.status.success() {
        let text = String::from_utf8_lossy(answer);
        return Outcome::Answer(Some(text.trim_end_matches('\n').to_owned()));
    }
    Outcome::Failed(Failure::crash(
        report.describe(&program_name(&program.program)),
    ))
}
