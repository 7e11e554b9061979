//! The outer process.

use drawbridge_shared::exit::Exit;

use crate::SelfCommand;

pub(crate) fn main(self_command: &SelfCommand) -> Exit {
    crate::supervisor::main(self_command)
}
