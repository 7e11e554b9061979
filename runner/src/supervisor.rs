//! The conversation, from the run's document to the last record.

use drawbridge_shared::exit::Exit;

use crate::SelfCommand;

pub(crate) fn main(_self_command: &SelfCommand) -> Exit {
    Exit::AgentFailed
}
