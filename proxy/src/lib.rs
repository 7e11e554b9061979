//! Placeholder.
pub mod credential;
pub mod scrub;
pub mod usage;
