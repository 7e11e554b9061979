//! The event loop of a command.

use std::future::Future;

use crate::error::{Context, Error, Result};

/// Runs async work to its end on this thread.
///
/// One thread is on purpose: a child process that is tied to its parent is tied
/// to the thread that started it, and this one lives as long as the program.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| Error::infrastructure("cannot start the event loop"))?;
    let done = runtime.block_on(work);
    // A read of the terminal may still be waiting; it must not hold us up.
    runtime.shutdown_background();
    done
}
