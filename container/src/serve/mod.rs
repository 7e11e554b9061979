//! `drawbridge serve`: a launcher that is left running.
//!
//! Submissions are written down before they are accepted, attempts before they
//! begin, ends before the next one is looked at. So whatever kills this
//! program, the next one knows what was going on.

mod answer;
mod api;
mod attempt;
mod client;
mod command;
mod connection;
mod delivery;
mod dispatcher;
mod http;
mod hub;
mod prepare;
mod queue;
mod recovery;
mod retry;
mod run_handle;
mod settings;
mod stdio;
pub(crate) mod store;
mod stream;
pub(crate) mod submission;
mod token;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use drawbridge_io::signals::Signals;
use drawbridge_shared::exit::Exit;
use tokio::net::UnixListener;
use tokio::task::LocalSet;

pub(crate) use answer::{Accepted, Answer, Purged, to_line};
pub(crate) use api::perform_on_store;
pub(crate) use client::{
    CloseArgs, EventsArgs, InterruptArgs, ListArgs, SendArgs, SubmitArgs, close, events, interrupt,
    list, list_line, send, show_list, submit,
};
pub(crate) use command::{Command, StoreCommand};
pub(crate) use connection::Client;
pub(crate) use settings::ServeArgs;

use crate::config::{ServeSettings, find_file, observe};
use crate::error::{Context, Error, Result};
use crate::process::{block_on, hide_memory};
use crate::serve::store::Store;
use crate::state::State;
use crate::terminal::output;
use hub::{Hub, Phase};
use settings::Setup;
use token::Token;

/// Name of the database in `serve`'s folder.
pub(crate) const QUEUE: &str = "queue.db";
/// Name of the socket in `serve`'s folder.
const SOCKET: &str = "serve.sock";

/// `drawbridge serve`.
pub(crate) fn command(args: ServeArgs) -> Result<Exit> {
    hide_memory();
    block_on(async {
        // An unreadable configuration is found out before anybody relies on us.
        let file = find_file(&observe()?)?;
        let (settings, _) = ServeSettings::resolve(&args.settings, file.as_ref())?;
        let setup = Setup::new(settings, args.runs).with_agent_args(args.agent_args);
        prepare::require_startable(setup.runs())?;
        let state = State::open()?;
        let _lock = lock(&state)?;
        LocalSet::new()
            .run_until(serve(state, setup, args.stdio))
            .await
    })
}

async fn serve(state: State, setup: Setup, has_stdio: bool) -> Result<Exit> {
    let mut signals =
        Signals::to_stop().context(|| Error::infrastructure("cannot watch for signals"))?;
    let folder = state.serve_folder();
    let store = Store::open(&folder.join(QUEUE))?;
    let hub = Arc::new(Hub::new(store, state, setup));
    recovery::recover(&hub).await?;

    let token = Token::make(&folder)
        .context(|| Error::infrastructure("cannot write the token of serve"))?;
    let listener = bind(&folder.join(SOCKET))?;
    let callers =
        tokio::task::spawn_local(http::listen(listener, Arc::clone(&hub), Arc::new(token)));
    let shown = folder.join(SOCKET);
    output::note(&format!("serving on {}", shown.display()));
    let stdio = has_stdio.then(|| tokio::task::spawn_local(stdio::serve(Arc::clone(&hub))));

    let ended = dispatcher::dispatch(&hub, &mut signals).await;
    hub.advance_to(Phase::Stopping);
    let _ = fs::remove_file(folder.join(SOCKET));
    hub.advance_to(Phase::Stopped);
    let _ = callers.await;
    if let Some(stdio) = stdio {
        // It writes the last events, and ends because all else has.
        let _ = stdio.await;
    }
    hub.store.close().await;
    if ended.as_ref().is_ok_and(|exit| *exit == Exit::Interrupted) {
        output::note("runs were cut short; `drawbridge dead-letter list` shows which");
    }
    ended
}

/// Makes sure to be the only `serve` of this state folder.
pub(crate) fn lock(state: &State) -> Result<fs::File> {
    let folder = state.serve_folder();
    let failed = || Error::not_started(format!("cannot use {}", folder.display()));
    let lock = state.lock_serve().context(failed)?;
    lock.ok_or_else(|| {
        let root = state.root().display();
        Error::not_started(format!(
            "another `drawbridge serve` uses the state folder {root}"
        ))
        .hint("stop it, or name another folder in DRAWBRIDGE_STATE_DIR")
    })
}

fn bind(path: &Path) -> Result<UnixListener> {
    let failed = || {
        Error::not_started(format!("cannot listen on {}", path.display()))
            .hint("a socket's path has at most 107 bytes; choose a short DRAWBRIDGE_STATE_DIR")
    };
    // Nobody else serves here, so what is there is a dead one's.
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context(failed);
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).context(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).context(failed)?;
    Ok(listener)
}
