//! Secrets, and the variables and files that hold them.

mod dotenv;
pub(crate) mod files;
mod setting;
mod unavailable;
mod value;

pub use drawbridge_settings::Environment;
pub use setting::is_read_from_dotenv;
pub(crate) use setting::{read_dotenv, setting};
pub use unavailable::{Reason, Unavailable};
pub use value::{InvalidSecret, Secret};
