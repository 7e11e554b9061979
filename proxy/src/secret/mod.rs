//! Secrets, and the places outside the configuration where they are found.

mod dotenv;
mod environment;
pub(crate) mod files;
mod unavailable;
mod value;

pub(crate) use environment::read_dotenv;
pub use environment::{Environment, Origin, Setting, is_read_from_dotenv};
pub use unavailable::{Reason, Unavailable};
pub use value::{InvalidSecret, Secret};
