//! Placeholder.
pub mod scrub;
pub mod usage;
