//! The one clock of upstream and client, which are threads of this process.

use std::sync::OnceLock;
use std::time::Instant;

/// Nanoseconds since the bench began.
pub(crate) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let nanoseconds = START.get_or_init(Instant::now).elapsed().as_nanos();
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}
