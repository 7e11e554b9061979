//! Checks of a request before its run.

use std::path::Path;

use drawbridge_shared::protocol::AgentKind;

use super::broker::{Handler, Responder};
use crate::error::{Error, Result};

/// The responder to the agent's requests.
pub(crate) fn responder(on_request: Option<&Path>, has_program: bool) -> Result<Responder> {
    let Some(program) = on_request else {
        return Ok(if has_program {
            Responder::Program
        } else {
            Responder::Person
        });
    };
    // A name without a folder is looked for in PATH when it is started.
    if program.components().count() > 1 && !program.is_file() {
        let program = program.display();
        return Err(
            Error::usage(format!("on-request: there is no program {program}"))
                .hint("`drawbridge config show` tells where the name comes from"),
        );
    }
    Ok(Responder::Handler(Handler::new(program.to_owned())))
}

/// Refuses an agent without the program it needs, and a program for an agent that
/// has no use for it.
pub(crate) fn require_program(agent: AgentKind, program: &[String]) -> Result<()> {
    if agent == AgentKind::Builtin && !program.is_empty() {
        let error = Error::usage("--agent builtin has no program that another could replace");
        return Err(error
            .hint("leave out what is behind the two dashes, or choose --agent command to run it"));
    }
    let needs_program = matches!(agent, AgentKind::Command | AgentKind::Acp);
    if !needs_program || !program.is_empty() {
        return Ok(());
    }
    let name = agent.name();
    Err(
        Error::usage(format!("--agent {name} needs a program")).hint(format!(
            "give it behind two dashes: --agent {name} -- PROGRAM ARGUMENTS"
        )),
    )
}
