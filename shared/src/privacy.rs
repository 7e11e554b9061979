//! Protection of this process's memory.

use std::io;

/// Keeps secrets out of core dumps, and other processes of the same user from
/// opening this process's memory and files under `/proc`. Only Linux has this.
///
/// # Errors
/// The system refuses.
pub fn not_dumpable() -> io::Result<()> {
    #[cfg(all(target_os = "linux", not(drawbridge_portable)))]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, dumpable_behavior};

    #[test]
    fn the_kernel_takes_it_over() {
        super::not_dumpable().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
