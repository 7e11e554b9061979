//! `credential-proxy session` and `reload`: the client of the admin socket.

use std::path::Path;

use drawbridge_shared::exit::Exit;
use http::Method;

use super::{AdminArgs, Failure, SessionCommand, output};
use crate::control::client;

pub(super) fn run(command: &SessionCommand) -> Result<Exit, Failure> {
    match command {
        SessionCommand::Issue { admin, request } => {
            let body = serde_json::to_vec(request).map_err(Failure::infrastructure)?;
            call(&admin.admin_socket, Method::POST, "/sessions", body)
        }
        SessionCommand::List(admin) => {
            call(&admin.admin_socket, Method::GET, "/sessions", Vec::new())
        }
        SessionCommand::Revoke { admin, id } => {
            let path = format!("/sessions/{id}");
            call(&admin.admin_socket, Method::DELETE, &path, Vec::new())
        }
    }
}

pub(super) fn reload(admin: &AdminArgs) -> Result<Exit, Failure> {
    call(&admin.admin_socket, Method::POST, "/reload", Vec::new())
}

fn call(socket: &Path, method: Method, path: &str, body: Vec<u8>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::infrastructure)?;
    let answer = runtime.block_on(client::call(socket, method, path, body));
    output::line(&answer.map_err(Failure::not_started)?);
    Ok(Exit::Success)
}
