//! The terminal: output, colours, progress and usage errors.

pub(crate) mod backpressure;
pub(crate) mod colour;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod usage;
