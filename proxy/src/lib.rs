//! Placeholder.
pub mod scrub;
