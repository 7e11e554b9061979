//! The context of one run: what all of its parts refer to.

use drawbridge_shared::ids::{GroupName, RunId};

use crate::config::RunSettings;
use crate::engine::{RunNetwork, Runtime};
use crate::error::Result;
use crate::spec::User;
use crate::state::{Group, RunFolder, State};

/// A run before anything of it is started.
#[derive(Debug)]
pub(super) struct RunContext<'a> {
    pub(super) run: RunId,
    pub(super) state: &'a State,
    pub(super) settings: RunSettings,
    pub(super) runtime: Runtime,
    /// User of the agent.
    pub(super) user: User,
    pub(super) folder: RunFolder,
    /// The run's own network, where its container is not sealed.
    pub(super) network: Option<RunNetwork>,
}

impl RunContext<'_> {
    /// The group that is kept under a name, or one that ends with the run.
    pub(super) fn open_group(&self, name: Option<&GroupName>) -> Result<Group> {
        match name {
            Some(name) => self.state.group(name),
            None => self.folder.group(),
        }
    }

    /// Makes the folders that the agent may use, and gives them to its user.
    pub(super) fn prepare_folders(&self, group: &mut Group) -> Result<()> {
        match self.runtime {
            Runtime::Container(..) if self.user != User::of_launcher() => group.give_to(self.user),
            Runtime::Container(..) => Ok(()),
            Runtime::Host => self.folder.make_scratch(),
        }
    }
}
