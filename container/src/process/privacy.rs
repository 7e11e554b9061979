//! Protection of this program's own memory.

#[cfg(all(target_os = "linux", not(drawbridge_portable)))]
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Keeps other processes of this user from reading the key out of this one,
/// its environment included.
pub(crate) fn hide_memory() {
    #[cfg(all(target_os = "linux", not(drawbridge_portable)))]
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("other processes of yours can read this one's memory: {error}");
    }
}
