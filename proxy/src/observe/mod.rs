//! The records of requests: log lines, counters and the audit file.

pub(crate) mod audit;
pub(crate) mod metrics;
mod record;
pub(crate) mod telemetry;

pub(crate) use record::Record;
pub(crate) use telemetry::{ByteCount, Completion, Telemetry};

#[cfg(test)]
mod tests;
