//! Answers to what Claude Code asks. It waits for each of them.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::wire::{self, PRE_COMPACT};
use crate::agent::types::AgentSpec;
use crate::host::archive::Archive;

/// Longest time to write an archive; less than Claude Code waits for it.
const ARCHIVE_DEADLINE: Duration = Duration::from_secs(15);
/// Time without growth after which a transcript counts as complete: Claude Code
/// writes its messages to it a moment after sending them.
const QUIET: Duration = Duration::from_millis(300);
/// Longest time that a growing transcript is waited for before it is archived
/// as it is.
const GROWTH_DEADLINE: Duration = Duration::from_secs(4);
/// Requests of Claude Code that are being worked on.
const MAX_ANSWERS: usize = 8;

/// The runner's side of Claude Code's requests.
#[derive(Debug)]
pub(super) struct Answers {
    archive: Archive,
    sender: mpsc::Sender<Value>,
    ready: mpsc::Receiver<Value>,
}

impl Answers {
    pub(super) fn new(spec: &AgentSpec) -> Self {
        let (sender, ready) = mpsc::channel(MAX_ANSWERS);
        Self {
            archive: Archive::new(&spec.workspace, spec.assistant_name.as_deref()),
            sender,
            ready,
        }
    }

    /// The next answer that took its time.
    pub(super) async fn next(&mut self) -> Value {
        match self.ready.recv().await {
            Some(answer) => answer,
            // We hold a sender ourselves, so the channel never ends.
            None => std::future::pending().await,
        }
    }

    /// The answer to a request; `None` when it comes later.
    pub(super) fn to(&self, request: &wire::Request) -> Option<Value> {
        let id = &request.request_id;
        match request.request.subtype.as_str() {
            "hook_callback" if request.request.callback_id.as_deref() == Some(PRE_COMPACT) => {
                self.archive_then_answer(request);
                None
            }
            "hook_callback" => Some(wire::answer(id, &json!({}))),
            other => Some(wire::refusal(id, &format!("unsupported request: {other}"))),
        }
    }

    /// Compaction waits for the answer, so the archive is complete before the
    /// details are gone. A slow disk does not hold it up for long.
    fn archive_then_answer(&self, request: &wire::Request) {
        let input = &request.request.input;
        let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
        let (transcript, session) = (text("transcript_path"), text("session_id"));
        let archive = self.archive.clone();
        let answer = wire::answer(&request.request_id, &json!({}));
        let answers = self.sender.clone();
        tokio::spawn(async move {
            let _ = timeout(GROWTH_DEADLINE, wait_until_written(Path::new(&transcript))).await;
            let saving = spawn_blocking(move || archive.save(Path::new(&transcript), &session));
            match timeout(ARCHIVE_DEADLINE, saving).await {
                Ok(Ok(Ok(Some(path)))) => tracing::info!("archived as {}", path.display()),
                Ok(Ok(Ok(None))) => {}
                Ok(Ok(Err(error))) => tracing::warn!("cannot archive the conversation: {error}"),
                Ok(Err(_)) | Err(_) => tracing::warn!("the conversation is not archived in time"),
            }
            // The process may have ended meanwhile.
            let _ = answers.send(answer).await;
        });
    }
}

/// Waits until a file has something in it and has stopped growing.
async fn wait_until_written(file: &Path) {
    let mut before = 0;
    loop {
        sleep(QUIET).await;
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        if size > 0 && size == before {
            return;
        }
        before = size;
    }
}
