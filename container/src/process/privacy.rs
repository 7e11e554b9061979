//! Protection of this program's own memory.

use drawbridge_shared::privacy::not_dumpable;

/// Keeps other processes of this user from reading the key out of this one,
/// its environment included.
pub(crate) fn hide_memory() {
    if let Err(error) = not_dumpable() {
        tracing::warn!("other processes of yours can read this one's memory: {error}");
    }
}
