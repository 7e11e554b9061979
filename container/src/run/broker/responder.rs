//! The party that answers an agent's requests.

use super::handler::Handler;

/// The party that answers an agent's requests.
#[derive(Clone, Debug)]
pub(crate) enum Responder {
    /// The program at the other end of the event stream.
    Program,
    /// A person, who sees messages and may be asked.
    Person,
    /// A program that is started for each request.
    Handler(Handler),
}
