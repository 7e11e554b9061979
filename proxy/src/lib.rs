//! Placeholder.
pub mod audit;
pub mod credential;
pub mod metrics;
pub mod scrub;
pub mod telemetry;
pub mod usage;
