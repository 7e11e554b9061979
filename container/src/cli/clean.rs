//! `drawbridge clean`.

use drawbridge_shared::exit::Exit;

use crate::engine::orphans;
use crate::error::Result;
use crate::process::block_on;
use crate::state::State;
use crate::terminal::output;

/// `drawbridge clean`.
pub(super) fn clean() -> Result<Exit> {
    block_on(async {
        let state = State::open()?;
        let dead = orphans::clean_up(&state).await?;
        let unknown = orphans::remove_unknown(&state).await;
        output::note(&format!(
            "removed {dead} dead runs and {unknown} other containers"
        ));
        Ok(Exit::Success)
    })
}
