//! The conversation, from the run's document to the last record.

use drawbridge_shared::exit::Exit;

use crate::SelfCommand;
use crate::cli::LifeArgs;

pub(crate) fn main(_self_command: &SelfCommand, life: &LifeArgs) -> Exit {
    if let Err(error) = crate::tied::guard(life, crate::tied::DeathSignal::Kill) {
        tracing::error!("{error}");
        return Exit::NotStarted;
    }
    Exit::AgentFailed
}
