//! The places that settings come from: the document `drawbridge.toml` and the
//! environment of the process.
//!
//! The launcher and the proxy read one document. Each resolves its own tables;
//! the list of all tables is here, so that both refuse one that neither knows.

mod document;
mod environment;

pub use document::{Document, DocumentError, FILE_NAME};
pub use environment::Environment;
