//! Commands and events on standard input and output, for a program that embeds
//! the launcher.
//!
//! Each line in is a command, and gets one line back: `{"answer": ..}` or
//! `{"error": ..}`, in order. Events come between them, as they come on the
//! socket: `{"seq": .., "event": ..}`.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;

use super::answer::{Answer, Refusal, to_line};
use super::api::perform;
use super::command::Command;
use super::hub::{Hub, Phase};
use super::stream::{self, Wanted};
use crate::error::Error;
use crate::process::lines::TextLines;
use crate::terminal::output;

/// Longest line, in bytes.
const MAX_LINE: usize = 32 * 1024 * 1024;
/// Pages of events that wait for a slow reader.
const WAITING_PAGES: usize = 2;

/// A successful answer, as it differs from events and refusals.
#[derive(Serialize)]
struct Answered {
    answer: Answer,
}

/// Takes commands until the input ends, which asks `serve` to end, and writes
/// events until all are written.
pub(super) async fn serve(hub: Arc<Hub>) {
    let since = hub.store.last_event().await.unwrap_or_default();
    let wanted = Wanted {
        since,
        submission: None,
        follow: true,
    };
    let (pages, mut receiver) = mpsc::channel::<Bytes>(WAITING_PAGES);
    let events = tokio::task::spawn_local(stream::send(Arc::clone(&hub), wanted, pages));
    let commands = take_commands(&hub);
    let writing = async {
        while let Some(page) = receiver.recv().await {
            output::data(page).await;
        }
    };
    tokio::join!(commands, writing);
    let _ = events.await;
}

async fn take_commands(hub: &Arc<Hub>) {
    let mut lines = TextLines::new(tokio::io::stdin(), MAX_LINE);
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = hub.reached(Phase::Stopped) => return,
        };
        let Ok(Some(line)) = line else {
            break;
        };
        let done = match line {
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) => match Command::parse(&text) {
                Ok(command) => perform(hub, command).await,
                Err(error) => Err(error),
            },
            Err(cause) => Err(Error::usage("a line cannot be read").caused_by(cause)),
        };
        let line = match done.and_then(|answer| to_line(&Answered { answer })) {
            Ok(line) => line,
            Err(error) => to_line(&Refusal::from(&error)).unwrap_or_default(),
        };
        output::data((line + "\n").into()).await;
    }
    hub.advance_to(Phase::Draining);
}
